"""The repeated blocks of a transformers model: their linear layers, and all else in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn


def linear_weights(model: nn.Module) -> Mapping[str, nn.Module]:
    """The linear layers of the blocks, by the names of their weights."""
    return {f"{name}.weight": module for name, module in _block_modules(model) if isinstance(module, nn.Linear)}


def other_parameters(model: nn.Module) -> set[str]:
    """Names of all parameters of the blocks that are not weights of linear layers."""
    names = {f"{name}.{p}" for name, m in _block_modules(model) for p, _ in m.named_parameters(recurse=False)}
    return names - set(linear_weights(model))


def _block_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules below the lists of blocks, those of encoder and of decoder, by qualified name."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in model.named_modules():
        if any(name.startswith(f"{each}.") for each in lists):
            yield name, module
