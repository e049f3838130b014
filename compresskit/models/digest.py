"""A hash of the weights that a model computes with, however they are kept: two models with one hash compute the same.

A mask, a parametrization and weights in 8 bits count as the numbers that they stand for, by the names that the plain
model has for them. So a merged checkpoint has the hash of its overlay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compresskit.models.int8 import INT8, arithmetic_of, dequantize
from compresskit.models.kinds.int8 import METHOD


def weights_digest(model: object) -> str | None:
    """Hex SHA-256 of the effective weights of a model, and of how it computes with 8 bits where it does.

    None where that cannot be told: of a graph, of weights that another package keeps packed, and of PEFT's adapters,
    which are added to what a layer answers and not to its weight.
    """
    if not isinstance(model, nn.Module) or getattr(model, "quantization_method", None) not in (None, METHOD):
        return None
    if any(hasattr(module, "base_layer") for module in model.modules()):
        return None
    known: dict[int, str] = {}
    lines = []
    with torch.no_grad():
        for name, kept, weight in _effective(model):
            if id(kept) not in known:  # several layers may share one
                known[id(kept)] = _digest(weight() if callable(weight) else weight)
            lines.append(f"{name} {known[id(kept)]}\n")
    return hashlib.sha256("".join([*sorted(lines), str(arithmetic_of(model))]).encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    bytes_of: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    digest.update(bytes_of)
    return digest.hexdigest()


class _Numbers:
    """The numbers that a module's codes stand for, made when they are asked for."""

    def __init__(self, module: nn.Module, name: str = "") -> None:
        self.module, self.name = module, name

    def __call__(self) -> Tensor:
        if isinstance(self.module, INT8):
            return dequantize(self.module.codes(), self.module.weight_scale)
        found: Tensor = getattr(self.module, self.name)
        return found


def _effective(model: nn.Module) -> Iterator[tuple[str, object, Tensor | _Numbers]]:
    """Yield name, what keeps it, and the numbers of every weight, and of every buffer that is saved."""
    inside: set[nn.Module] = set()
    for prefix, module in model.named_modules():
        if module in inside:
            continue
        own = f"{prefix}." if prefix else ""
        coded = isinstance(module, INT8)
        if isinstance(module, INT8):
            kept = module._parameters["weight"] if module._parameters["weight"] is not None else module
            yield f"{own}weight", kept, _Numbers(module)
        if parametrize.is_parametrized(module):
            parts = module.get_submodule("parametrizations")
            inside.update(parts.modules())
            for name, made_from in parts.named_children():
                yield f"{own}{name}", made_from, _Numbers(module, name)
        unsaved = {*module._non_persistent_buffers_set, *(("weight_scale",) if coded else ())}
        for name, tensor in module.named_parameters(recurse=False):
            if not (coded and name == "weight"):
                yield f"{own}{name}", tensor, tensor
        for name, tensor in module.named_buffers(recurse=False):
            if name not in unsaved:
                yield f"{own}{name}", tensor, tensor
