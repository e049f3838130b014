"""A stand-in of mamba-ssm's fused function: in PyTorch, but of the weights themselves, as its CUDA kernel is."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

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
    B: None,
    C: None,
    D: Tensor,
    delta_bias: Tensor,
    **_: Any,
) -> Tensor:
    """Outputs of a whole mixer but for in_proj; arguments as mamba-ssm has them."""
    x, z = xz.chunk(2, dim=1)
    width, length = conv1d_weight.shape[-1], x.shape[-1]
    x = functional.conv1d(x, conv1d_weight, conv1d_bias, padding=width - 1, groups=x.shape[1])[..., :length]
    x = functional.silu(x).transpose(1, 2)
    n = A.shape[1]
    dt, B_, C_ = functional.linear(x, x_proj_weight).split([delta_proj_weight.shape[1], n, n], dim=-1)
    dt = functional.softplus(functional.linear(dt, delta_proj_weight, delta_bias))
    y, _state = selective_scan(x.transpose(1, 2), dt.transpose(1, 2), A, B_, C_, D, z)
    return functional.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)
