"""Mamba's CUDA kernels, of the packages mamba-ssm and causal-conv1d: found, tried once, and made to go on from a state.

Both are built against an installed torch (docs/reference/mamba.md). Without them, or where they do not run, our scan
computes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compresskit import console

PACKAGES = {"mamba_ssm": "mamba-ssm", "causal_conv1d": "causal-conv1d"}
# Widths of a convolution that causal-conv1d has code for.
WIDTHS = (2, 3, 4)
# A step of time in which nothing decays.
SHORT = 2.0**-60


@dataclass(frozen=True, slots=True)
class Kernels:
    """What our mixers call, by the names of the two packages."""

    mamba_inner_fn: Callable[..., Any]
    selective_scan_fn: Callable[..., Any]
    selective_state_update: Callable[..., Any]
    causal_conv1d_fn: Callable[..., Any]


def kernels_for(tensor: Tensor) -> Kernels | None:
    """The kernels that can compute with a tensor: none off a GPU, whatever is installed."""
    return _kernels() if tensor.is_cuda else None


@functools.cache
def _kernels() -> Kernels | None:
    """The kernels, or None where they are not installed or do not run on this GPU; one line says so, once."""
    if missing := [name for package, name in PACKAGES.items() if importlib.util.find_spec(package) is None]:
        console.info(
            f"{' and '.join(missing)} not installed: a scan in PyTorch computes, which is slower "
            "(docs/reference/mamba.md tells how to install them)"
        )
        return None
    try:
        return working()
    except Exception as error:  # built for another torch or CUDA they raise whatever the loader or the driver says
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        console.warn(
            f"mamba-ssm and causal-conv1d do not run with torch {torch.__version__} on this GPU ({reason}): a scan in "
            "PyTorch computes, which is slower; build them again for this torch (docs/reference/mamba.md), or "
            "uninstall them"
        )
        return None


def working() -> Kernels:
    """The kernels, each of them tried on the GPU; raises whatever they raise, which may be any exception."""
    found = _imported()
    _try(found)
    return found


def scan(
    found: Kernels,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`scan.selective_scan` by CUDA kernels, but `dt` is given before its softplus.

    y has the number format of x; sums and the last state are fp32. The kernel begins with zeros, so a `state` before
    the first token is written by tokens of its own, see `_with_state`. Where one token follows a state, that is
    overwritten. No gradient comes through the last state.
    """
    dt, B, C = (tensor.to(x.dtype) for tensor in (dt, B, C))
    z, D = None if z is None else z.to(x.dtype), D.float()
    if state is not None and x.shape[-1] == 1:
        gate, nothing = None if z is None else z[..., 0], torch.zeros_like(D)  # mamba-ssm 2.3 needs a bias of dt
        y = found.selective_state_update(state, x[..., 0], dt[..., 0], A, B[:, 0], C[:, 0], D, gate, nothing, True)
        return y.unsqueeze(-1), state
    B, C, written = B.mT.contiguous(), C.mT.contiguous(), 0
    dtype = x.dtype
    if state is not None:
        dt, written = functional.softplus(dt.float()), state.shape[-1]
        x, dt, B, C, z = _with_state(x.float(), dt, B.float(), C.float(), z, state)
    more: dict[str, Any] = {"delta_softplus": state is None, "return_last_state": True}
    y, last = found.selective_scan_fn(x, dt, A, B, C, D, z, **more)
    return y[..., written:].to(dtype), last


def _with_state(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, z: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """A scan's fp32 inputs with n tokens more in front, that write a state (batch, d, n) column by column.

    A token's step dt multiplies its input, and decays what is there by exp(dt · A). In a step of 2⁻⁶⁰ an input of
    2⁶⁰ times the column arrives whole, and exp(dt · A) is 1 in fp32 for any |A| below 2³⁵: that is exact.
    """
    n = state.shape[-1]
    front = torch.full_like(state, SHORT)
    columns = torch.eye(n, device=state.device).expand(len(state), n, n)
    x, dt = torch.cat((state / SHORT, x), dim=-1), torch.cat((front, dt), dim=-1)
    B, C = torch.cat((columns, B), dim=-1), functional.pad(C, (n, 0))
    return x, dt, B, C, None if z is None else functional.pad(z.float(), (n, 0))


def convolved(found: Kernels, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """silu of a causal depthwise convolution. x is (batch, d, length), weight (d, 1, width); the result is as x."""
    y: Tensor = found.causal_conv1d_fn(x.contiguous(), weight.squeeze(1), bias, activation="silu")
    return y


def _imported() -> Kernels:
    interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    update = importlib.import_module("mamba_ssm.ops.triton.selective_state_update")
    convolution = importlib.import_module("causal_conv1d")
    return Kernels(
        interface.mamba_inner_fn,
        interface.selective_scan_fn,
        update.selective_state_update,
        convolution.causal_conv1d_fn,
    )


@torch.no_grad()
def _try(found: Kernels) -> None:
    """One call of each, on a few numbers; raises what they raise."""
    batch, d, n, length, width = 1, 8, 4, 8, 4
    x = torch.ones(batch, d, length, device="cuda")
    A, states = -torch.ones(d, n, device="cuda"), torch.ones(batch, length, n, device="cuda")
    D, weight = torch.ones(d, device="cuda"), torch.ones(d, 1, width, device="cuda")
    weights = torch.ones(1 + 2 * n, d, device="cuda"), x[0, :, :1], torch.eye(d, device="cuda")
    with torch.autocast("cuda", enabled=False):  # the first pass may be one of a training in bf16
        _, state = scan(found, convolved(found, x, weight, D), x, A, states, states, D)
        scan(found, x[..., :1], x[..., :1], A, states[:, :1], states[:, :1], D, state=state.clone())
        found.mamba_inner_fn(x.repeat(1, 2, 1), weight, D, *weights, None, A, D=D, delta_bias=D)
    torch.cuda.synchronize()
