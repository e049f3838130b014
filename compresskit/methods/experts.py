"""What no method here reaches: stacks of matrices, such as the experts of a mixture, and convolutions in their place.

Experts: Jiang et al. 2024, arXiv 2401.04088.
"""

from __future__ import annotations

from compresskit import console
from compresskit.errors import InputError
from compresskit.models.blocks import other_parameters, stacked_parameters
from compresskit.models.loaded import TrainableModel


def check_experts(loaded: TrainableModel, method: str, *, needed: bool) -> None:
    """Warn where a method leaves out a model's experts, or the heads that XLNet keeps as stacks.

    Raises InputError where they are `needed`, and most of the parameters of the blocks; and for blocks that are made of
    convolutions (SqueezeBERT).
    """
    model, weights = loaded.model, loaded.family.weights(loaded.model)
    if not weights:
        raise InputError(
            f"{loaded.ref} has no linear layers in its blocks, and {method} reaches those alone; "
            "take a model of another type"
        )
    sizes = {name: model.get_parameter(name).numel() for name in stacked_parameters(model)}
    count = sum(sizes.values())
    if not count:
        return
    total = sum(model.get_parameter(name).numel() for name in {*weights, *other_parameters(model)})
    what = "its experts" if any("experts" in name.split(".") for name in sizes) else "some of its layers"
    why = f"{loaded.ref} keeps {what} as stacks of matrices, which {method} does not reach"
    if needed and 2 * count > total:
        raise InputError(f"{why}: {count:,} of the {total:,} parameters of its blocks; take a model without them")
    console.warn(f"{why}: {count:,} parameters of its blocks stay as large as they are")
