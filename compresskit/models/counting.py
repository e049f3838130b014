"""How many weights a model computes with, however they are kept."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compresskit.models.int8 import Int8Linear
from compresskit.models.kind import ParameterCount
from compresskit.models.kinds.bnb import unpacked
from compresskit.models.kinds.packed import hides_weights, is_companion


def count(model: nn.Module) -> ParameterCount:
    """The parameters of a model; a tensor that several modules share counts once.

    A parametrized weight (a mask over a frozen weight, say) counts as the effective weight that the module computes
    with, whatever tensors it is made from; it is trainable if any of those is. A weight that bitsandbytes keeps in 4
    bits counts as what it stands for, not as the bytes that it is packed in. Where quantized weights cannot be told
    from how they are packed, all figures are None.
    """
    if hides_weights(model):
        return ParameterCount(None, None, None)
    total = nonzero = trainable = 0
    for tensor, learns in _effective_weights(model):
        size = tensor.numel()
        total += size
        nonzero += int(tensor.count_nonzero().item())
        trainable += size if learns else 0
    return ParameterCount(total, nonzero, trainable)


def _effective_weights(model: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """Yield every weight once, as the model computes with it, and whether it learns."""
    seen: set[tuple[int, ...]] = set()
    inside: set[nn.Module] = set()
    for module in model.modules():
        if module in inside:
            continue
        if isinstance(module, Int8Linear) and not module.shared:
            yield module.codes(), False
            seen.add((id(module.kept),))
        for name, parameter in module.named_parameters(recurse=False):
            if (id(parameter),) not in seen and not is_companion(module, name):
                seen.add((id(parameter),))
                yield _logical(parameter), parameter.requires_grad
        if not parametrize.is_parametrized(module):
            continue
        parametrizations = module.get_submodule("parametrizations")
        inside.update(parametrizations.modules())
        for name, parts in parametrizations.named_children():
            made_from = [*parts.parameters(), *parts.buffers()]
            key = tuple(id(part) for part in made_from)
            if key not in seen:
                seen.add(key)
                with torch.no_grad():
                    yield getattr(module, name), any(part.requires_grad for part in made_from)


def _logical(parameter: nn.Parameter) -> Tensor:
    """The weight that a parameter stands for: itself, or what bitsandbytes packed into it."""
    return parameter.detach() if getattr(parameter, "quant_state", None) is None else unpacked(parameter)
