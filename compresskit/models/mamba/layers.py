"""PEFT's LoRA layers whose `weight` is the effective one, for whatever reads a weight instead of calling its layer.

Mamba's fused kernel takes the weights of x_proj, dt_proj and out_proj in training; on other paths dt_proj's is read
too. PEFT's own layers show those readers the weight without its adapter, which then is not trained.
"""

from __future__ import annotations

from typing import Any

from peft.tuners.lora import Linear
from torch import Tensor


class EffectiveWeight:
    """What is mixed into a LoRA layer of PEFT: called it computes as before, read it is W + s · B A."""

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
                effective = effective + self.get_delta_weight(name).to(effective.dtype)
        return effective


class EffectiveLinear(EffectiveWeight, Linear):
    """LoRA on a linear layer."""
