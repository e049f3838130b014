"""Mask overlays: what a mask adds to its base, read from and applied to models.

An overlay folder holds `mask.safetensors` and `weights.safetensors`. In the latter, a tensor under a mask is there only
if its weights were learned: then its kept values, one after another in C order (1-D); every other tensor is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compresskit.checkpoint.mask import Mask, load_masks, save_masks
from compresskit.checkpoint.store import load_tensors, save_tensors
from compresskit.errors import InputError

WEIGHTS_FILE = "weights.safetensors"


def save_overlay(folder: Path, masks: Mapping[str, Mask], learned: Mapping[str, Tensor]) -> None:
    """Write an overlay: `masks` by parameter name, and the `learned` parameters, whole tensors of the base's shapes."""
    save_masks(folder, masks)
    packed = {
        name: tensor.detach().cpu()[torch.from_numpy(masks[name].expand())] if name in masks else tensor
        for name, tensor in learned.items()
    }
    save_tensors(folder / WEIGHTS_FILE, packed)


@torch.no_grad()
def apply_overlay(model: PreTrainedModel, folder: Path) -> None:
    """Turn a model that holds the base's weights (on the CPU) into the overlay's, in place.

    Raises InputError where a name or a shape of the overlay does not fit the model.
    """
    parameters = dict(model.named_parameters())
    masks = load_masks(folder, {name: tuple(parameter.shape) for name, parameter in parameters.items()})
    learned = load_tensors(folder / WEIGHTS_FILE)
    foreign = sorted({*masks, *learned} - set(parameters))
    if foreign:
        raise InputError(f"{folder} changes {foreign[0]}, which its base does not have; it belongs to another model")
    for name in {*masks, *learned}:
        parameter, mask = parameters[name], masks.get(name)
        try:
            if mask is None:
                parameter.copy_(_fitting(learned[name], parameter))
            else:
                bits = _fitting(torch.from_numpy(mask.expand()), parameter)
                parameter.copy_(_masked(parameter, bits, learned.get(name)))
        except ValueError as error:
            raise InputError(
                f"{folder}: {name} does not fit its base's shape {tuple(parameter.shape)} ({error})"
            ) from error


def _fitting(tensor: Tensor, base: Tensor) -> Tensor:
    """The tensor itself; ValueError where its shape is another one, which torch might broadcast without a word."""
    if tensor.shape != base.shape:
        raise ValueError(f"the overlay's is {tuple(tensor.shape)}")
    return tensor


def _masked(base: Tensor, mask: Tensor, values: Tensor | None) -> Tensor:
    if values is None:
        return torch.where(mask, base, torch.zeros((), dtype=base.dtype))
    if values.shape != (int(mask.sum()),):
        raise ValueError(f"the overlay has {values.numel()} values for {int(mask.sum())} kept weights")
    return torch.zeros_like(base).masked_scatter_(mask, values.to(base.dtype))
