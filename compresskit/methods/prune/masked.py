"""The mask as a parametrization of a weight: whatever reads `.weight` sees `W ⊙ M(S)`.

The mask keeps the weights whose score reaches a threshold. Its gradient is straight-through (Bengio et al. 2013;
Sanh et al. 2020): `dL/dS = dL/dW' ⊙ W`, summed over a block, and `dL/dW = dL/dW' ⊙ M`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

from compresskit.errors import UsageError

Block = tuple[int, int]


class MaskedWeight(nn.Module):
    """Parametrization of a weight of shape (rows, columns) by a mask.

    `scores` has one entry for each block, shape (rows / block[0], columns / block[1]), fp32; without scores the
    importance of a weight is its magnitude. `threshold` is a scalar on the weight's device. `effective` is the masked
    weight of the current training step, where a controller has computed those of all matrices at once; `exact` is the
    mask, of the scores' shape, that stands in the place of the threshold's while a model under way is asked. Like the
    threshold it is a buffer: whoever captured a pass sees by the model's buffers that it lies elsewhere.
    """

    threshold: Tensor
    exact: Tensor | None

    def __init__(self, weight: Tensor, block: Block, *, with_scores: bool) -> None:
        super().__init__()
        self.block = block
        grid = (weight.shape[0] // block[0], weight.shape[1] // block[1])
        self.scores = nn.Parameter(weight.new_zeros(grid, dtype=torch.float32)) if with_scores else None
        self.register_buffer("threshold", weight.new_full((), float("-inf"), dtype=torch.float32), persistent=False)
        self.register_buffer("exact", None, persistent=False)
        self.effective: Tensor | None = None

    def importance(self, weight: Tensor) -> Tensor:
        """What decides which weights stay, one entry for each block: the score, or the block's mean magnitude."""
        if self.scores is not None:
            return self.scores.detach()
        return _block_sum(weight.detach().abs(), self.block) / (self.block[0] * self.block[1])

    def forward(self, weight: Tensor) -> Tensor:
        """The effective weight: that of the current step while training, else masked at the present threshold."""
        if self.training and self.effective is not None:
            return self.effective
        kept = self.importance(weight) >= self.threshold if self.exact is None else self.exact
        return masked_weights([weight], [self.scores], [kept], [weight.detach()], self.block)[0]


def masked_weights(
    weights: Sequence[Tensor],
    scores: Sequence[Tensor | None],
    kept: Sequence[Tensor],
    values: Sequence[Tensor],
    block: Block,
) -> tuple[Tensor, ...]:
    """`W ⊙ M` for many matrices in one node of the graph, straight-through to weights and scores.

    `kept` are boolean block masks; `values` are the weights in the dtype of the result. One node for all matrices
    costs one call from C++ into Python instead of one for each.
    """
    learned = [*weights, *(score for score in scores if score is not None)]
    effective: tuple[Tensor, ...] = _Masks.apply(block, kept, values, *learned)  # type: ignore[no-untyped-call]
    return effective


class _Masks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, block: Block, kept: Sequence[Tensor], values: Sequence[Tensor], *learned: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.block, ctx.kept = block, kept
        ctx.save_for_backward(*learned[: len(kept)])
        return tuple(torch.where(_expand(k, block), value, 0) for k, value in zip(kept, values, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        weights, block, first = ctx.saved_tensors, ctx.block, 3
        needed = ctx.needs_input_grad[first:]
        results: list[Tensor | None] = [None] * len(needed)
        for index, (grad, weight, kept) in enumerate(zip(grads, weights, ctx.kept, strict=True)):
            if needed[index]:
                results[index] = torch.where(_expand(kept, block), grad, 0).to(weight.dtype)
            score = index + len(weights)
            if score < len(needed) and needed[score]:
                # bf16 times fp32 is one kernel that reads 6 bytes and writes 4 a weight, with no rounding in between.
                results[score] = _block_sum(torch.mul(grad, weight), block)
        return (*[None] * first, *results)


class MeanPenalty(torch.autograd.Function):
    """`coefficient · mean over matrices of the mean sigmoid of the scores`, and those means, shape (matrices,).

    Equal to the plain formula under autograd; written out because that takes a dozen kernels for each matrix, and this
    four. `sizes` are the matrices' numbers of entries, shape (matrices,); the means carry no gradient.
    """

    @staticmethod
    def forward(ctx: Any, coefficient: float, sizes: Tensor, *scores: Tensor) -> tuple[Tensor, Tensor]:
        """Sigmoids of all matrices in one multi-tensor kernel, their sums as 1-norms in another."""
        sigmoids = torch._foreach_sigmoid(scores)
        means = torch.stack(torch._foreach_norm(sigmoids, 1)) / sizes
        ctx.save_for_backward(*sigmoids)
        ctx.coefficient, ctx.sizes = coefficient, sizes
        ctx.mark_non_differentiable(means)
        return coefficient * means.mean(), means

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
        """`grad · coefficient / (matrices · size) · σ(S)(1 - σ(S))` for each matrix."""
        sigmoids = ctx.saved_tensors
        scales = (grad * (ctx.coefficient / len(sigmoids)) / ctx.sizes).unbind()
        backward = torch.ops.aten.sigmoid_backward
        return (None, None, *(backward(c.expand_as(y), y) for c, y in zip(scales, sigmoids, strict=True)))


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
    """Put a mask over the parameter `name` (as the model calls it) of the module that holds it.

    Raises UsageError where it cannot be cut into blocks of that shape.
    """
    check_block(name, module, block)
    mask = MaskedWeight(module.get_parameter(own_name(name)), block, with_scores=with_scores)
    # `unsafe` skips only a trial forward pass and its check of the dtype, which differs on purpose under autocast.
    parametrize.register_parametrization(module, own_name(name), mask, unsafe=True)
    return mask


def check_block(name: str, module: nn.Module, block: Block) -> None:
    """UsageError where the parameter `name` of `module` cannot be cut into blocks of that shape.

    A block's rows are of outputs. Those of a `Conv1D` are its weight's columns, so that its blocks have to be square.
    """
    weight = module.get_parameter(own_name(name))
    if isinstance(module, Conv1D) and block[0] != block[1]:
        raise UsageError(f"{name} has its outputs in columns (Conv1D), so a block has to be square; give a --block NxN")
    if weight.shape[0] % block[0] or weight.shape[1] % block[1]:
        shape = "x".join(map(str, weight.shape))
        raise UsageError(
            f"{name} of {shape} cannot be cut into blocks of {block[0]}x{block[1]}; choose a --block that divides it"
        )


def own_name(name: str) -> str:
    """What a parameter is called within its module: the last part of its name in the model."""
    return name.rpartition(".")[2]


def original_name(name: str) -> str:
    """What the model calls the weight below a mask: the parameter `encoder.0.weight`, once it is masked."""
    module, dot, own = name.rpartition(".")
    return f"{module}{dot}parametrizations.{own}.original"


def original_weight(module: nn.Module, name: str) -> nn.Parameter:
    """The weight below the mask over the parameter `name` of a module."""
    return module.get_parameter(original_name(own_name(name)))
