"""Stand-ins of mamba-ssm's and causal-conv1d's functions in PyTorch, each with what makes the CUDA kernel awkward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compresskit.models.mamba.kernels import Kernels
from compresskit.models.mamba.scan import selective_scan


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: None = None,
    C: None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    **_: Any,
) -> Tensor:
    """Outputs of a whole mixer but for in_proj, of the weights themselves; arguments as mamba-ssm has them."""
    x, z = xz.chunk(2, dim=1)
    width, length = conv1d_weight.shape[-1], x.shape[-1]
    x = functional.conv1d(x, conv1d_weight, conv1d_bias, padding=width - 1, groups=x.shape[1])[..., :length]
    x = functional.silu(x).transpose(1, 2)
    assert D is not None
    n = A.shape[1]
    dt, B_, C_ = functional.linear(x, x_proj_weight).split([delta_proj_weight.shape[1], n, n], dim=-1)
    dt = functional.softplus(functional.linear(dt, delta_proj_weight, delta_bias))
    y, _state = selective_scan(x.transpose(1, 2), dt.transpose(1, 2), A, B_, C_, D, z)
    return functional.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None,
    delta_softplus: bool,
    return_last_state: bool,
) -> tuple[Tensor, Tensor]:
    """Begins with zeros whatever came before; B and C are (batch, n, length)."""
    assert return_last_state
    assert u.dtype == delta.dtype == B.dtype == C.dtype
    dt = functional.softplus(delta.float()) if delta_softplus else delta
    y, last = selective_scan(u, dt, A, B.mT, C.mT, D, z)
    return y.to(u.dtype), last


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None,
    dt_bias: Tensor,
    dt_softplus: bool,
) -> Tensor:
    """One token; the state is overwritten."""
    assert dt_softplus
    dt = functional.softplus(dt + dt_bias)
    state.copy_(torch.exp(dt[..., None] * A) * state + (dt * x)[..., None] * B[:, None])
    y = (state * C[:, None]).sum(-1) + D * x
    return y if z is None else y * functional.silu(z)


def causal_conv1d_fn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """weight is (d, width)."""
    assert activation == "silu"
    padded = functional.pad(x, (weight.shape[1] - 1, 0))
    return functional.silu(functional.conv1d(padded, weight[:, None], bias, groups=len(weight)))


KERNELS = Kernels(mamba_inner_fn, selective_scan_fn, selective_state_update, causal_conv1d_fn)
