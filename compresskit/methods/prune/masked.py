"""The mask as a parametrization of a weight: whatever reads `.weight` sees `W ⊙ M(S)`.

The mask keeps the weights whose score reaches a threshold. Its gradient is straight-through (Bengio et al. 2013;
Sanh et al. 2020): `dL/dS = dL/dW' ⊙ W`, summed over a block, and `dL/dW = dL/dW' ⊙ M`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compresskit.errors import UsageError

Block = tuple[int, int]


class MaskedWeight(nn.Module):
    """Parametrization of a weight of shape (rows, columns) by a mask.

    `scores` has one entry for each block, shape (rows / block[0], columns / block[1]), fp32; without scores the
    importance of a weight is its magnitude. `threshold` is a scalar on the weight's device, set by the controller
    before each step.
    """

    threshold: Tensor

    def __init__(self, weight: Tensor, block: Block, *, with_scores: bool) -> None:
        super().__init__()
        self.block = block
        grid = (weight.shape[0] // block[0], weight.shape[1] // block[1])
        self.scores = nn.Parameter(weight.new_zeros(grid, dtype=torch.float32)) if with_scores else None
        self.register_buffer("threshold", weight.new_full((), float("-inf"), dtype=torch.float32), persistent=False)
        self._low_precision: Tensor | None = None

    def importance(self, weight: Tensor) -> Tensor:
        """What decides which weights stay, one entry for each block: the score, or the block's mean magnitude."""
        if self.scores is not None:
            return self.scores.detach()
        return _block_sum(weight.detach().abs(), self.block) / (self.block[0] * self.block[1])

    def forward(self, weight: Tensor) -> Tensor:
        """The effective weight, in autocast's dtype where autocast is on."""
        kept = self.importance(weight) >= self.threshold
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        scores = self.scores if self.scores is not None else weight.new_empty(0)
        effective: Tensor = _Mask.apply(  # type: ignore[no-untyped-call]
            weight, scores, kept, self._values(weight, dtype), self.block
        )
        return effective

    def _values(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The weight in the dtype of computation; a frozen one is converted once instead of at every step."""
        if weight.dtype == dtype or weight.requires_grad:
            return weight.detach().to(dtype)
        if self._low_precision is None or self._low_precision.device != weight.device:
            self._low_precision = weight.to(dtype)
        return self._low_precision


class _Mask(torch.autograd.Function):
    """`W ⊙ M` forward, straight-through to the scores backward; `values` is the weight in the dtype of the result."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, kept: Tensor, values: Tensor, block: Block) -> Tensor:
        ctx.block = block
        ctx.save_for_backward(weight, kept)
        return torch.where(_expand(kept, block), values, values.new_zeros(()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        weight, kept = ctx.saved_tensors
        grad_weight = grad_scores = None
        if ctx.needs_input_grad[0]:
            grad_weight = torch.where(_expand(kept, ctx.block), grad, grad.new_zeros(())).to(weight.dtype)
        if ctx.needs_input_grad[1]:
            # bf16 times fp32 is one kernel that reads 6 bytes and writes 4 a weight, with no rounding in between.
            grad_scores = _block_sum(torch.mul(grad, weight), ctx.block)
        return grad_weight, grad_scores, None, None, None


def _expand(grid: Tensor, block: Block) -> Tensor:
    if block == (1, 1):
        return grid
    return grid.repeat_interleave(block[0], dim=0).repeat_interleave(block[1], dim=1)


def _block_sum(full: Tensor, block: Block) -> Tensor:
    if block == (1, 1):
        return full
    rows, columns = full.shape[0] // block[0], full.shape[1] // block[1]
    return full.view(rows, block[0], columns, block[1]).sum(dim=(1, 3))


def attach(name: str, module: nn.Module, block: Block, *, with_scores: bool) -> MaskedWeight:
    """Put a mask over `module.weight`.

    Raises UsageError where the weight cannot be cut into blocks of that shape.
    """
    weight = module.get_parameter("weight")
    if weight.shape[0] % block[0] or weight.shape[1] % block[1]:
        shape = "x".join(map(str, weight.shape))
        raise UsageError(
            f"{name} of {shape} cannot be cut into blocks of {block[0]}x{block[1]}; choose a --block that divides it"
        )
    mask = MaskedWeight(weight, block, with_scores=with_scores)
    # `unsafe` skips only a trial forward pass and its check of the dtype, which differs on purpose under autocast.
    parametrize.register_parametrization(module, "weight", mask, unsafe=True)
    return mask


def original_weight(module: nn.Module) -> nn.Parameter:
    """The weight below the mask of a module."""
    parameter: nn.Parameter = module.get_submodule("parametrizations.weight").get_parameter("original")
    return parameter
