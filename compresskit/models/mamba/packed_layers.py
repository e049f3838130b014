"""The same LoRA layers on what bitsandbytes has packed. Importing it takes bitsandbytes."""

from __future__ import annotations

from typing import Any

from peft.tuners.lora.bnb import Linear4bit, Linear8bitLt
from peft.utils.integrations import dequantize_bnb_weight
from torch import Tensor

from compresskit.models.kinds.bnb import unpacked
from compresskit.models.mamba.layers import EffectiveWeight


class EffectiveLinear4bit(EffectiveWeight, Linear4bit):
    """LoRA on a linear layer in 4 bits."""

    def base_weight(self: Any) -> Tensor:
        """What the packed weight stands for, (out, in)."""
        return unpacked(self.get_base_layer().weight)


class EffectiveLinear8bit(EffectiveWeight, Linear8bitLt):
    """LoRA on a linear layer in 8 bits."""

    fuses = False  # called, it rounds its inputs, and so it should learn

    def base_weight(self: Any) -> Tensor:
        """What the packed weight stands for, (out, in)."""
        base = self.get_base_layer()
        weight: Tensor = dequantize_bnb_weight(base.weight, state=base.state)
        return weight
