"""Effective weights W + s · B A of all layers alike at once: a GPU would wait for the launch of each small kernel.

One layer at a time, the effective weights of a Mamba-130M and their gradients are some 600 kernels a step; a step as a
whole then takes as long as the CPU needs to launch its kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from compresskit.models.mamba.layers import EffectiveLinear

# Numbers that one call computes with: larger layers are few a call, and keep a GPU busy anyway.
LARGEST = 1 << 26


class ComputedTogether:
    """Hooks of a model: while its adapters learn on a GPU, each pass begins with all effective weights.

    The layers then hold the weights of that pass, in the number format that it multiplies in.
    """

    def __init__(self, model: nn.Module) -> None:
        """`model` is transformers' Mamba without a head."""
        self._layers = [layer for layer in model.modules() if isinstance(layer, EffectiveLinear)]
        self._hooks = [
            model.register_forward_pre_hook(self._compute),
            model.register_forward_hook(self._forget, always_call=True),
        ]

    def remove(self) -> None:
        """Let each layer compute its own weight again."""
        for hook in self._hooks:
            hook.remove()

    def _compute(self, model: Any, *_: Any) -> None:
        if not (torch.is_grad_enabled() and self._layers and self._layers[0].base_weight().is_cuda):
            return
        # A checkpointed block computes once more behind this pass, when its weights are gone.
        if not model.gradient_checkpointing:
            compute([layer for layer in self._layers if layer.learns()])

    def _forget(self, *_: Any) -> None:
        for layer in self._layers:
            layer.computed = None


def compute(layers: Sequence[EffectiveLinear]) -> None:
    """Compute the effective weights of `layers`, each of which has one adapter, into their `computed`."""
    for group in _alike(layers):
        base, device = group[0].base_weight(), group[0].base_weight().device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else base.dtype
        bases = [layer.base_weight() for layer in group]
        adapters = [layer.adapter() for layer in group]
        A, B, scaling = zip(*adapters, strict=True)
        for layer, weight in zip(group, _Sums.apply(scaling[0], dtype, bases, *A, *B), strict=True):  # type: ignore[no-untyped-call]  # torch's own
            layer.computed = weight


def _alike(layers: Sequence[EffectiveLinear]) -> Iterator[list[EffectiveLinear]]:
    """The layers in groups of equal shapes, formats and scaling, each of them bounded."""
    groups = defaultdict(list)
    for layer in layers:
        base, (A, B, scaling) = layer.base_weight(), layer.adapter()
        groups[base.shape, base.dtype, base.device, A.shape, A.dtype, B.dtype, scaling].append(layer)
    for (shape, *_), group in groups.items():
        count = max(1, LARGEST // shape.numel())
        yield from (group[start : start + count] for start in range(0, len(group), count))


class _Sums(torch.autograd.Function):
    """W + s · B A of n matrices: W (out, in), A (rank, in), B (out, rank); summed in A's number format.

    The gradients are those of Hu et al. 2021 (arXiv 2106.09685): dA = s · Bᵀ dW, dB = s · dW Aᵀ.
    """

    @staticmethod
    def forward(ctx: Any, scaling: float, dtype: torch.dtype, bases: Sequence[Tensor], *adapters: Tensor) -> Any:
        """The sums, n tensors (out, in) in `dtype`; the adapters are n times A, then n times B."""
        A, B = torch.stack(adapters[: len(bases)]), torch.stack(adapters[len(bases) :])
        sums = torch.stack(list(bases)).to(A.dtype)
        with torch.autocast(A.device.type, enabled=False):
            sums.baddbmm_(B, A, alpha=scaling)
        ctx.save_for_backward(A, B)
        ctx.scaling = scaling
        return sums.to(dtype).unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of the adapters; the bases learn nothing."""
        A, B = ctx.saved_tensors
        with torch.autocast(A.device.type, enabled=False):
            grad = torch.stack(grads).to(A.dtype)
            grad_A = torch.bmm(B.mT, grad).mul_(ctx.scaling)
            grad_B = torch.bmm(grad, A.mT).mul_(ctx.scaling)
        return None, None, None, *grad_A.unbind(), *grad_B.unbind()
