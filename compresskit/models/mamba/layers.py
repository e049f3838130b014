"""PEFT's LoRA layers whose `weight` is the effective one, for whatever reads a weight instead of calling its layer.

Mamba's fused kernel takes the weights of x_proj, dt_proj and out_proj in training; on other paths dt_proj's is read
too. PEFT's own layers show those readers the weight without its adapter, which then is not trained.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional


class EffectiveWeight:
    """What is mixed into a LoRA layer of PEFT: read, its weight is W + s · B A, and so it computes while it learns."""

    def base_weight(self: Any) -> Tensor:
        """W, of shape (out, in)."""
        weight: Tensor = self.get_base_layer().weight
        return weight

    @property
    def weight(self: Any) -> Tensor:
        """The weight with all active adapters, (out, in), in W's number format; gradients reach the adapters."""
        effective: Tensor = self.base_weight()
        if not self.disable_adapters and not self.merged:
            for name in set(self.active_adapters) & set(self.lora_A):
                A, B = self.lora_A[name].weight, self.lora_B[name].weight
                with torch.autocast(A.device.type, enabled=False):  # one kernel, and no rounding of what learns
                    added = torch.addmm(effective.to(A.dtype), B, A, alpha=self.scaling[name])
                effective = added.to(effective.dtype)
        return effective

    def forward(self: Any, x: Tensor, *args: Any, **more: Any) -> Tensor:
        """Outputs (…, out) of inputs (…, in).

        With gradients, of the effective weight: PEFT's own way takes a dozen small kernels more a layer, and two passes
        over the outputs. Without, as PEFT does: one token's outputs are less than a weight.
        """
        drops = any(isinstance(self.lora_dropout[name], nn.Dropout) for name in self.lora_dropout)
        if args or more or not torch.is_grad_enabled() or self.disable_adapters or self.merged or drops:
            outputs: Tensor = super().forward(x, *args, **more)  # type: ignore[misc]  # PEFT's, which this is mixed into
            return outputs
        weight, bias = self.weight, self.get_base_layer().bias
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(weight.dtype)
        return functional.linear(x, weight, bias)


class EffectiveLinear(EffectiveWeight, Linear):
    """LoRA on a linear layer."""
