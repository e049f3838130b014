"""The selective scan of Mamba-1 in plain PyTorch, chunk by chunk, for machines without its CUDA kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Tokens whose states are held at once on a CPU. Of 8 to 128, 8 and 16 took the least time, forward and back, at 512
# tokens of Mamba-130M's shape; 16 keeps fewer states between chunks.
CHUNK = 16
# On a GPU the states of as many tokens are held as make so many numbers (512 MiB in fp32), and so many of the tokens
# follow each other in one group.
NUMBERS, GROUP = 2**27, 16


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None = None,
    state: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The selective state space model of Mamba (Gu & Dao 2023, arXiv 2312.00752, algorithm 2).

    Each channel has n states h, which go from token to token, and its output y:

        h_t = exp(dt_t · A) · h_{t-1} + dt_t · B_t · x_t
        y_t = C_t · h_t + D · x_t, times silu(z_t) where there is a gate

    The decay exp(dt · A) is never divided by, so nothing overflows, however large dt is. Of all states only those
    between chunks are kept; the backward pass computes the others again, a chunk at a time. Both passes hold
    O(chunk + length / chunk) states instead of O(length). There is no second derivative.

    Args:
        x: Inputs after the convolution, (batch, d, length).
        dt: Step sizes after softplus, (batch, d, length).
        A: What the states decay by, (d, n), negative.
        B: What goes from the inputs into the states, (batch, length, n).
        C: What goes from the states into the outputs, (batch, length, n).
        D: The inputs' own part in the outputs, (d,).
        z: The gate before its silu, (batch, d, length).
        state: h before the first token, (batch, d, n); zeros where it is None.
        chunk: Number of tokens whose states are held at once; None for what suits the device.

    Returns:
        y, (batch, d, length), and h after the last token, (batch, d, n). Both are fp32, or float64 where x is, since
        that is what is computed in, autocast or not.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, dt, A, B, C, D = (tensor.to(dtype) for tensor in (x, dt, A, B, C, D))
    state = x.new_zeros(*x.shape[:2], A.shape[1]) if state is None else state.to(dtype)
    chunk = chunk or (CHUNK if state.device.type == "cpu" else max(NUMBERS // state.numel(), GROUP))
    time_first = (tensor.movedim(axis, 0).contiguous() for tensor, axis in ((x, 2), (dt, 2), (B, 1), (C, 1)))
    y, last = _Scan.apply(state, A, *time_first, chunk)  # type: ignore[no-untyped-call]  # torch's own
    y = y.movedim(0, 2) + D.unsqueeze(-1) * x
    return (y if z is None else y * functional.silu(z.to(dtype))), last


class _Scan(torch.autograd.Function):
    """The states and C · h, time first: x and dt are (length, batch, d), B and C are (length, batch, n)."""

    @staticmethod
    def forward(
        ctx: Any, state: Tensor, A: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        starts, outputs = [], []
        with torch.autocast(x.device.type, enabled=False):
            for part in _chunks(len(x), chunk):
                starts.append(state)
                _, states = _states(state, A, x[part], dt[part], B[part])
                outputs.append(torch.einsum("tbdn,tbn->tbd", states[1:], C[part]))
                state = states[-1].clone()  # a view would hold on to the whole chunk
        ctx.chunk = chunk
        ctx.save_for_backward(A, x, dt, B, C, *starts)
        return torch.cat(outputs), state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        A, x, dt, B, C, *starts = ctx.saved_tensors
        grad_A, grad_x, grad_dt, grad_B, grad_C = (torch.zeros_like(tensor) for tensor in (A, x, dt, B, C))
        carried = grad_last  # what later tokens give to the state before them
        with torch.autocast(x.device.type, enabled=False):
            for part, start in reversed(list(zip(_chunks(len(x), ctx.chunk), starts, strict=True))):
                decay, states = _states(start, A, x[part], dt[part], B[part])
                grad_C[part] = torch.einsum("tbdn,tbd->tbn", states[1:], grad_y[part])
                grad_states = torch.einsum("tbd,tbn->tbdn", grad_y[part], C[part])
                grad_states[-1] += carried
                _recur(decay[1:], grad_states[:-1], grad_states[-1], reverse=True)
                carried = decay[0] * grad_states[0]
                grad_B[part] = torch.einsum("tbdn,tbd->tbn", grad_states, dt[part] * x[part])
                grad_input = torch.einsum("tbdn,tbn->tbd", grad_states, B[part])  # of dt · x
                grad_x[part] = dt[part] * grad_input
                grad_exponent = grad_states * states[:-1] * decay  # of dt · A
                grad_dt[part] = x[part] * grad_input + torch.einsum("tbdn,dn->tbd", grad_exponent, A)
                grad_A += torch.einsum("tbdn,tbd->dn", grad_exponent, dt[part])
        return carried, grad_A, grad_x, grad_dt, grad_B, grad_C, None


def _chunks(length: int, chunk: int) -> list[slice]:
    return [slice(start, start + chunk) for start in range(0, length, chunk)]


def _states(state: Tensor, A: Tensor, x: Tensor, dt: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The decay of each token, (length, batch, d, n), and the states from the one before the first on, one more."""
    decay = torch.exp(dt.unsqueeze(-1) * A)
    added = torch.einsum("tbd,tbn->tbdn", dt * x, B)
    states = torch.cat((state.unsqueeze(0), added))
    _recur(decay, states[1:], state)
    return decay, states


def _recur(decay: Tensor, values: Tensor, before: Tensor, *, reverse: bool = False) -> None:
    """values[t] += decay[t] · values[t - 1], in place, token by token; `before` is in front of the first.

    With `reverse` it goes from the last token to the first, and values[t + 1] is what counts.
    """
    if _pays_in_groups(values):
        rest = len(values) % GROUP
        end = len(values) - rest
        whole, left = (slice(rest, None), slice(rest)) if reverse else (slice(end), slice(end, None))
        before = _recur_in_groups(decay[whole], values[whole], before, reverse=reverse)
        decay, values = decay[left], values[left]
    for t in _order(len(values), reverse):
        before = values[t].addcmul_(decay[t], before)


def _recur_in_groups(decay: Tensor, values: Tensor, before: Tensor, *, reverse: bool) -> Tensor:
    """The same in few large steps, for a GPU: within all groups of tokens at once, then from group to group.

    It is the parallel prefix of Blelloch 1990 with two levels. Returns the last value.
    """
    values, passed = (tensor.view(-1, GROUP, *tensor.shape[1:]) for tensor in (values, decay))
    passed = passed.clone()  # to become, at each token, what is left of what was before its group
    first, *others = _order(GROUP, reverse)
    last = first
    for t in others:
        values[:, t].addcmul_(passed[:, t], values[:, last])
        passed[:, t].mul_(passed[:, last])
        last = t
    for group in _order(len(values), reverse):
        values[group].addcmul_(passed[group], before)
        before = values[group, last]
    return before


def _pays_in_groups(values: Tensor) -> bool:
    """A GPU takes as long for a small kernel as for a much larger one; a CPU reads a chunk from its cache."""
    return values.device.type != "cpu" and len(values) >= 2 * GROUP


def _order(count: int, reverse: bool) -> range:
    return range(count - 1, -1, -1) if reverse else range(count)
