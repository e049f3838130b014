"""Experts of a mixture (Jiang et al. 2024, arXiv 2401.04088): stacks of matrices that no method here reaches."""

from __future__ import annotations

from compresskit import console
from compresskit.errors import InputError
from compresskit.models.blocks import other_parameters, stacked_parameters
from compresskit.models.loaded import TrainableModel


def check_experts(loaded: TrainableModel, method: str, *, needed: bool) -> None:
    """Warn where a method leaves out a model's experts, or other stacks, such as XLNet's attention.

    Raises InputError where they are `needed`, and most of the parameters of the blocks.
    """
    model = loaded.model
    sizes = {name: model.get_parameter(name).numel() for name in stacked_parameters(model)}
    count = sum(sizes.values())
    if not count:
        return
    weights = loaded.family.weights(model)
    total = sum(model.get_parameter(name).numel() for name in {*weights, *other_parameters(model)})
    what = "its experts" if any("experts" in name.split(".") for name in sizes) else "some of its layers"
    why = f"{loaded.ref} keeps {what} as stacks of matrices, which {method} does not reach"
    if needed and 2 * count > total:
        raise InputError(f"{why}: {count:,} of the {total:,} parameters of its blocks; take a model without them")
    console.warn(f"{why}: {count:,} parameters of its blocks stay as large as they are")
