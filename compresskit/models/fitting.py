"""Whether a folder holds the weights of the model that its configuration tells of, before that model is built.

A configuration may ask for a hundred thousand layers. Its model is first built without memory (on torch's meta device),
and no further than the folder's files could fill it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from transformers import PretrainedConfig

from compresskit.checkpoint.store import tensor_shapes, weight_files
from compresskit.errors import InputError
from compresskit.models.family import Family

_MEND = "copy its config.json and its weights again"

# What need not be in a file: tied weights (four times in a T5), masks and positions that are computed, a head.
_TIMES, _MORE_TENSORS, _MORE_NUMBERS = 4, 1_000, 64_000_000
# Of what is left, positions that are computed alone.
_SLACK, _POSITIONS = 1.25, 16_000_000
_MORE_PARTS = 50_000  # that are joined while they are read, such as experts
_WEIGHTS_IN_A_BYTE = 8  # of packed ones, at most


@dataclass(frozen=True, slots=True)
class Held:
    """How many tensors some files hold, and the most numbers that those can stand for."""

    tensors: int
    numbers: int


def held(folder: Path, *, packed: bool = False) -> Held:
    """What the safetensors files of a folder hold, by their headers. Raises InputError where one is damaged."""
    shapes = [shape for _, shape in tensor_shapes(folder)]
    if packed:
        return Held(len(shapes), _WEIGHTS_IN_A_BYTE * sum(path.stat().st_size for path in weight_files(folder)))
    return Held(len(shapes), sum(torch.Size(shape).numel() for shape in shapes))


def check_fits(family: Family, folder: Path, config: PretrainedConfig) -> None:
    """InputError where the model of a configuration has more weights than the folder's files, its head left out."""
    plain: Any = copy.deepcopy(config)
    packed = getattr(plain, "quantization_config", None) is not None
    if packed:
        del plain.quantization_config
    found = held(folder, packed=packed)
    with torch.device("meta"), no_larger_than(found, folder):
        model = family.build(plain)
    if found.tensors > _TIMES * len(list(model.named_parameters())) + _MORE_PARTS:
        raise InputError(f"{folder} holds {found.tensors:,} tensors, far more than its model has; {_MEND}")
    left_out = family.head(model) | set(model.all_tied_weights_keys)
    wanted = sum(tensor.numel() for name, tensor in model.named_parameters() if name not in left_out)
    if wanted > _SLACK * found.numbers + _POSITIONS:
        raise InputError(
            f"{folder}/config.json tells of {wanted:,} weights, its files hold {found.numbers:,} at most; {_MEND}"
        )


@contextlib.contextmanager
def no_larger_than(found: Held, folder: Path, more: int = _MORE_NUMBERS) -> Iterator[None]:
    """While the block builds modules: InputError as soon as they have far more than was `found` in a folder.

    `more` is how many numbers they may have beside those.
    """
    tensors = numbers = 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal tensors, numbers
        if tensor is None or module._parameters.get(name) is not None or module._buffers.get(name) is not None:
            return  # put in the place of another one
        tensors, numbers = tensors + 1, numbers + tensor.numel()
        if tensors > _TIMES * found.tensors + _MORE_TENSORS or numbers > _TIMES * found.numbers + more:
            raise InputError(f"{folder} tells of a larger model than its files hold weights for; {_MEND}")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
