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

from compresskit.checkpoint.headers import read_headers
from compresskit.checkpoint.mask import Mask, load_masks, read_masks, save_masks
from compresskit.checkpoint.store import load_tensors, save_tensors
from compresskit.errors import InputError
from compresskit.models.kinds.fit import WEIGHTS_FILE, check_overlay


def save_overlay(folder: Path, masks: Mapping[str, Mask], learned: Mapping[str, Tensor]) -> None:
    """Write an overlay: `masks` by parameter name, and the `learned` parameters, whole tensors of the base's shapes."""
    save_masks(folder, masks)
    packed = {
        name: tensor.detach().cpu()[torch.from_numpy(masks[name].expand())] if name in masks else tensor
        for name, tensor in learned.items()
    }
    save_tensors(folder / WEIGHTS_FILE, packed)


@torch.no_grad()
def apply_overlay(model: PreTrainedModel, folder: Path) -> set[str]:
    """Turn a model that holds the base's weights (on the CPU) into the overlay's, in place; the names that it learned.

    Raises InputError where a name, a shape or a number format of the overlay does not fit the model; nothing is decoded
    or changed before all of them do.
    """
    parameters = dict(model.named_parameters())
    foreign = sorted({*read_masks(folder), *read_headers(folder / WEIGHTS_FILE)} - set(parameters))
    if foreign:
        raise InputError(f"{folder} changes {foreign[0]}, which its base does not have; it belongs to another model")
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    check_overlay(folder, shapes.get)
    masks, learned = load_masks(folder, shapes), load_tensors(folder / WEIGHTS_FILE)
    for name, mask in masks.items():
        parameters[name].copy_(_masked(parameters[name], torch.from_numpy(mask.expand()), learned.get(name)))
    for name in learned.keys() - masks.keys():
        parameters[name].copy_(learned[name])
    return set(learned)


def _masked(base: Tensor, mask: Tensor, values: Tensor | None) -> Tensor:
    if values is None:
        return torch.where(mask, base, torch.zeros((), dtype=base.dtype))
    return torch.zeros_like(base).masked_scatter_(mask, values.to(base.dtype))
