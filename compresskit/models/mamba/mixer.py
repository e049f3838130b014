"""Mamba-1's mixer on our own scan: for the CPU, and for a GPU without Mamba's kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import Cache
from transformers.models.falcon_mamba.modeling_falcon_mamba import FalconMambaMixer
from transformers.models.mamba.modeling_mamba import MambaMixer

from compresskit.models.mamba.scan import selective_scan


class _OwnScan:
    """A mixer's forward pass that calls no kernel, and goes on from the state of a cache with any number of tokens.

    Transformers' own forgets that state where more than one token follows it (transformers#46032). All layers are
    called, none is read raw, so that adapters and packed weights are seen.
    """

    def forward(
        self: Any,
        hidden_states: Tensor,
        cache_params: Cache | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,  # what transformers 5.24 calls cache_params
        **_: Any,
    ) -> Tensor:
        """Outputs of the mixer for `hidden_states` (batch, length, hidden); the states in the cache are updated.

        The attention mask, (batch, length), is 0 for padding. On either side that leaves the outputs of the real
        tokens as they are; on the right it changes the states in the cache, as it does in transformers
        (transformers#48256).
        """
        cache = cache_params if cache is None else cache
        length = hidden_states.shape[1]
        mask = 1 if attention_mask is None else attention_mask[:, -length:, None].to(hidden_states.dtype)
        x, z = self.in_proj(hidden_states * mask).transpose(1, 2).chunk(2, dim=1)
        state = None
        if cache is not None:
            if cache.has_previous_state(self.layer_idx):
                state = cache.layers[self.layer_idx].recurrent_states[0]
            x = cache.update_conv_state(x, self.layer_idx, conv_kernel_size=self.conv_kernel_size)
        end = x.shape[-1]  # of the new tokens, behind those of the cache
        x = self.act(self.conv1d(x)[..., end - length : end]).transpose(1, 2) * mask
        sizes = [self.time_step_rank, self.ssm_state_size, self.ssm_state_size]
        dt, B, C = self.normalized(*self.x_proj(x).split(sizes, dim=-1))
        dt = functional.softplus(self.dt_proj(dt).float())
        A = -torch.exp(self.A_log.float())
        y, last = selective_scan(x.transpose(1, 2), dt.transpose(1, 2), A, B, C, self.D, z, state)
        if cache is not None:
            cache.update_recurrent_state(last, self.layer_idx)
        outputs: Tensor = self.out_proj(y.transpose(1, 2).to(hidden_states.dtype))
        return outputs

    def normalized(self, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What x_proj made, as it is."""
        return dt, B, C


class OwnScanMambaMixer(_OwnScan, MambaMixer):
    """Mamba's mixer on our scan."""


class OwnScanFalconMambaMixer(_OwnScan, FalconMambaMixer):
    """Falcon-Mamba's mixer on our scan: Mamba's, with norms."""

    def normalized(self, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What x_proj made, with norms, which have no weights."""
        return self.dt_layernorm(dt), self.b_layernorm(B), self.c_layernorm(C)


_OWN: dict[type[nn.Module], type[nn.Module]] = {
    MambaMixer: OwnScanMambaMixer,
    FalconMambaMixer: OwnScanFalconMambaMixer,
}


def use_own_scan(model: nn.Module) -> int:
    """Let the Mamba-1 and Falcon-Mamba mixers of a model compute with `selective_scan`, in place.

    Returns the number of mixers that do now. Weights, configuration and what is saved stay the same, and so do all
    other models in the process. Transformers takes Mamba's CUDA kernels wherever they are installed, on the CPU too,
    and its own loop over the tokens elsewhere; a model changed here calls neither. Mamba-2 keeps its own
    mixer: its path in PyTorch is a chunked scan with states already.
    """
    for module in model.modules():
        if own := _OWN.get(type(module)):
            module.__class__ = own
    return sum(isinstance(module, _OwnScan) for module in model.modules())
