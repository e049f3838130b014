"""The repeated blocks of a transformers model: their linear layers, and all else in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

from torch import nn
from transformers.pytorch_utils import Conv1D


def is_linear_layer(module: nn.Module) -> TypeGuard[nn.Linear | Conv1D]:
    """Whether a module is a linear layer: torch's, or GPT-2's `Conv1D`, whose weight is (inputs, outputs)."""
    return isinstance(module, nn.Linear | Conv1D)


def linear_weights(model: nn.Module) -> Mapping[str, nn.Module]:
    """The linear layers of the blocks, by the names of their weights."""
    return {f"{name}.weight": module for name, module in modules_of_blocks(model) if is_linear_layer(module)}


def other_parameters(model: nn.Module) -> set[str]:
    """Names of all parameters of the blocks that are not weights of linear layers."""
    names = {f"{name}.{p}" for name, m in modules_of_blocks(model) for p, _ in m.named_parameters(recurse=False)}
    return names - set(linear_weights(model))


def stacked_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of the blocks that hold the matrices of many experts at once, and of their biases."""
    convolutions = {f"{name}.weight" for name, m in modules_of_blocks(model) if isinstance(m, nn.Conv1d | nn.Conv2d)}
    return {
        name
        for name in other_parameters(model) - convolutions
        if model.get_parameter(name).ndim > (1 if "experts" in name.split(".") else 2)
    }


def modules_of_blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules below the lists of blocks, those of encoder and of decoder, by qualified name."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in model.named_modules():
        if any(name.startswith(f"{each}.") for each in lists):
            yield name, module
