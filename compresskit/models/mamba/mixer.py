"""Mixers of our own for transformers' Mambas: on Mamba's kernels where they run, on our scan elsewhere."""

from __future__ import annotations

import inspect
import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import Cache
from transformers.models.falcon_mamba.modeling_falcon_mamba import FalconMambaMixer
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from compresskit.models.mamba.kernels import WIDTHS, Kernels, convolved, kernels_for, scan
from compresskit.models.mamba.scan import selective_scan

# As a step of time before its softplus: its softplus is 0 in every number format, so a state stays as it is.
NO_TIME = -1e4


class _OwnMixer:
    """A mixer's forward pass that goes on from the state of a cache with any number of tokens.

    Transformers' own forgets that state where more than one token follows it. Layers are called, so that adapters and
    packed weights are seen; the fused kernel, which reads weights, is given the effective ones. Kernels are for tensors
    on a GPU alone, whatever is installed.
    """

    fuses = False
    """Whether the fused kernel computes this sort of mixer."""
    keeps_states = True
    """Whether padding leaves the states in a cache as they were."""

    def forward(
        self: Any,
        hidden_states: Tensor,
        cache_params: Cache | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,  # what transformers 5.24 calls cache_params
        **_: Any,
    ) -> Tensor:
        """Outputs of the mixer for `hidden_states` (batch, length, hidden); the states in the cache are updated.

        The attention mask, (batch, length), is 0 for padding. On the right that leaves the outputs of the real tokens
        as they are, and the states in the cache, which in transformers go on over it (transformers#48256); on the left
        too, but for the fused kernel's outputs.
        """
        cache = cache_params if cache is None else cache
        length = hidden_states.shape[1]
        mask = None if attention_mask is None else attention_mask[:, -length:, None].to(hidden_states.dtype)
        xz = self.in_proj(hidden_states if mask is None else hidden_states * mask).transpose(1, 2)
        found = kernels_for(xz) if self._fits() else None
        if found is not None and cache is None and self.fuses and (weights := self._shown_weights()):
            fused: Tensor = self._fused(found, xz, weights)
            return fused
        x, z = xz.chunk(2, dim=1)
        state = None
        if cache is not None:
            if cache.has_previous_state(self.layer_idx):
                state = cache.layers[self.layer_idx].recurrent_states[0]
            x = cache.update_conv_state(x, self.layer_idx, conv_kernel_size=self.conv_kernel_size)
            if mask is not None:
                cache.layers[self.layer_idx].conv_states[0] = _last_columns(x, mask, self.conv_kernel_size)
        x = self._convolved(found, x, length).transpose(1, 2)
        x = x if mask is None else x * mask
        sizes = [self.time_step_rank, self.ssm_state_size, self.ssm_state_size]
        dt, B, C = self.normalized(*self.x_proj(x).split(sizes, dim=-1))
        dt = self.dt_proj(dt)
        if mask is not None and cache is not None:
            dt = dt.masked_fill(mask == 0, NO_TIME)
        dt, x = dt.transpose(1, 2), x.transpose(1, 2)
        if found is None:
            y, last = selective_scan(x, functional.softplus(dt.float()), self._A(), B, C, self.D, z, state)
        else:
            y, last = scan(found, x, dt, self._A(), B, C, self.D, z, state)
        if cache is not None:
            cache.update_recurrent_state(last, self.layer_idx)
        outputs: Tensor = self.out_proj(y.transpose(1, 2).to(hidden_states.dtype))
        return outputs

    def normalized(self, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What x_proj made, as it is."""
        return dt, B, C

    def _A(self: Any) -> Tensor:
        return -torch.exp(self.A_log.float())

    def _fits(self: Any) -> bool:
        """Whether there is kernel code for this mixer."""
        return self.activation in ("silu", "swish") and self.conv_kernel_size in WIDTHS

    def _shown_weights(self: Any) -> list[Tensor]:
        """The weights of x_proj, dt_proj and out_proj, if they are what the layers compute with; else none."""
        layers = (self.x_proj, self.dt_proj, self.out_proj)
        if not all(isinstance(each, nn.Linear) or getattr(each, "fuses", False) for each in layers):
            return []  # other layers of PEFT, or packed ones
        weights = [each.weight for each in layers]
        shapes = [(each.out_features, each.in_features) for each in layers]
        plain = all(weight.is_floating_point() for weight in weights)
        return weights if plain and [tuple(weight.shape) for weight in weights] == shapes else []

    def _fused(self: Any, found: Kernels, xz: Tensor, weights: list[Tensor]) -> Tensor:
        """All but in_proj in one kernel, which keeps little for the backward pass and computes the rest again.

        `weights` are the effective ones of x_proj, dt_proj and out_proj: gradients reach adapters and masks.
        """
        outputs: Tensor = found.mamba_inner_fn(
            xz,
            self.conv1d.weight,
            self.conv1d.bias,
            *(weight.to(xz.dtype) for weight in weights),
            None,  # its bias has a gradient of another shape there, in mamba-ssm 2.3
            self._A(),
            D=self.D.float(),
            delta_bias=self.dt_proj.bias.float(),
            delta_softplus=True,
        )
        return outputs if self.out_proj.bias is None else outputs + self.out_proj.bias

    def _convolved(self: Any, found: Kernels | None, x: Tensor, length: int) -> Tensor:
        """x (batch, d, n) after the convolution and silu: the last `length` tokens, behind those of the cache."""
        end, width = x.shape[-1], self.conv_kernel_size
        if length == 1 and end >= width:  # one dot product a channel: a convolution is for more of them
            summed = (x[..., -width:].float() * self.conv1d.weight.squeeze(1).float()).sum(dim=-1, keepdim=True)
            summed = summed if self.conv1d.bias is None else summed + self.conv1d.bias.float().unsqueeze(-1)
            after: Tensor = self.act(summed.to(x.dtype))
        elif found is not None:
            after = convolved(found, x, self.conv1d.weight, self.conv1d.bias)[..., -length:]
        else:
            after = self.act(self.conv1d(x)[..., end - length : end])
        return after


def _last_columns(x: Tensor, mask: Tensor, width: int) -> Tensor:
    """The last `width` columns of x (batch, d, n) up to each row's last real token; zeros before the first column.

    `mask` (batch, length, 1) tells which of the last `length` columns are real.
    """
    length = mask.shape[1]
    ends = ((mask[..., 0] != 0) * torch.arange(1, length + 1, device=x.device)).amax(dim=1)
    columns = (x.shape[-1] - length + ends).unsqueeze(1) + torch.arange(width, device=x.device)
    return functional.pad(x, (width, 0)).gather(2, columns.unsqueeze(1).expand(-1, x.shape[1], -1))


class OwnMambaMixer(_OwnMixer, MambaMixer):
    """Mamba's mixer."""

    fuses = True


class OwnFalconMambaMixer(_OwnMixer, FalconMambaMixer):
    """Falcon-Mamba's mixer: Mamba's, with norms, which the fused kernel has in another place."""

    def normalized(self, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What x_proj made, with norms, which have no weights."""
        return self.dt_layernorm(dt), self.b_layernorm(B), self.c_layernorm(C)


class OwnMamba2Mixer(Mamba2Mixer):
    """Mamba-2's mixer: transformers' own, whose functions off a GPU are those in PyTorch, whatever is installed."""

    def forward(self, hidden_states: Tensor, *args: Any, **more: Any) -> Tensor:
        """Outputs for `hidden_states` (batch, length, hidden); the states in the cache are updated."""
        forward = super().forward if hidden_states.is_cuda else types.MethodType(_mamba2_in_pytorch, self)
        outputs: Tensor = forward(hidden_states, *args, **more)
        return outputs


def _in_pytorch(module: types.ModuleType, forward: Any) -> Any:
    """A forward pass of transformers that calls its functions in PyTorch where it would call kernels."""
    plain = {name: inspect.unwrap(each) for name, each in vars(module).items() if inspect.isfunction(each)}
    code = inspect.unwrap(forward)
    return types.FunctionType(code.__code__, vars(module) | plain, code.__name__, code.__defaults__, code.__closure__)


_mamba2_in_pytorch = _in_pytorch(modeling_mamba2, Mamba2Mixer.forward)

_OWN: dict[type[nn.Module], type[nn.Module]] = {
    MambaMixer: OwnMambaMixer,
    FalconMambaMixer: OwnFalconMambaMixer,
    Mamba2Mixer: OwnMamba2Mixer,
}


def use_own_mixers(model: nn.Module) -> int:
    """Let the mixers of a Mamba compute as the classes above do, in place.

    Returns the number of mixers that do now. Weights, configuration and what is saved stay the same, and so do all
    other models in the process. Transformers takes Mamba's CUDA kernels wherever they are installed, on the CPU too,
    and a loop over the tokens elsewhere.
    """
    for module in model.modules():
        if own := _OWN.get(type(module)):
            module.__class__ = own
    return sum(isinstance(module, tuple(_OWN.values())) for module in model.modules())
