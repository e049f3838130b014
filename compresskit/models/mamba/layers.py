"""PEFT's LoRA layers whose `weight` is the effective one, for whatever reads a weight instead of calling its layer.

Mamba's fused kernel takes the weights of x_proj, dt_proj and out_proj; transformers' mixer reads dt_proj's on every
path. PEFT's own layers show those readers the weight without its adapter, which then is not trained.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional


class EffectiveWeight:
    """What is mixed into a LoRA layer of PEFT: called it computes as before, read it is W + s · B A."""

    fuses = True
    """Whether a fused kernel may take the effective weight instead of calling the layer."""
    computed: Tensor | None = None
    """The effective weight in the pass that runs, where it was computed with those of other layers."""

    def base_weight(self: Any) -> Tensor:
        """W, of shape (out, in)."""
        weight: Tensor = self.get_base_layer().weight
        return weight

    @property
    def weight(self: Any) -> Tensor:
        """The weight with all active adapters, (out, in), in W's number format; gradients reach the adapters.

        Where it was computed with others', in the number format that the pass multiplies in.
        """
        if self.computed is not None:
            together: Tensor = self.computed
            return together
        effective: Tensor = self.base_weight()
        if not self.disable_adapters and not self.merged:
            for name in set(self.active_adapters) & set(self.lora_A):
                A, B = self.lora_A[name].weight, self.lora_B[name].weight
                with torch.autocast(A.device.type, enabled=False):  # one kernel, and no rounding of what learns
                    added = torch.addmm(effective.to(A.dtype), B, A, alpha=self.scaling[name])
                effective = added.to(effective.dtype)
        return effective


class EffectiveLinear(EffectiveWeight, Linear):
    """LoRA on a linear layer."""

    def adapter(self: Any) -> tuple[Tensor, Tensor, float]:
        """A (rank, in), B (out, rank) and the scaling s of the only adapter."""
        (name,) = self.lora_A
        return self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]

    def learns(self: Any) -> bool:
        """Whether the layer has one adapter, in use, and no dropout: then it may compute with its effective weight."""
        drops = any(isinstance(dropout, nn.Dropout) for dropout in self.lora_dropout.values())
        return len(self.lora_A) == 1 and not (drops or self.disable_adapters or self.merged)

    def forward(self: Any, x: Tensor, *args: Any, **more: Any) -> Tensor:
        """Outputs (…, out) of inputs (…, in).

        Of the effective weight, if that was computed: PEFT's own way takes a dozen small kernels more a layer, and two
        passes over the outputs, but fewer products.
        """
        if self.computed is None or args or more:
            outputs: Tensor = super().forward(x, *args, **more)
            return outputs
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.computed.dtype)
        return functional.linear(x, self.computed, self.get_base_layer().bias)
