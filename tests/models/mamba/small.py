"""Small random Mambas for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2}
FAMILIES = ("mamba", "falcon_mamba")


def small(family: str = "mamba", **options: Any) -> Any:
    """A model in evaluation mode, none of whose weights is zero or one."""
    made: Any
    if family == "mamba":
        made = MambaForCausalLM(MambaConfig(**SIZES | options))
    elif family == "falcon_mamba":
        made = FalconMambaForCausalLM(FalconMambaConfig(**SIZES | options))
    else:
        sizes = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}
        made = Mamba2ForCausalLM(Mamba2Config(**SIZES | sizes | options))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    made.eval()
    return made


def ids(batch: int, length: int) -> Tensor:
    """Random tokens, (batch, length)."""
    return torch.randint(1, SIZES["vocab_size"], (batch, length))
