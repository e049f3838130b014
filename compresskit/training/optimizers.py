"""The optimizers by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from compresskit.models.kinds.bnb import library
from compresskit.training.arguments import OptimizerName

ParameterGroup = dict[str, Any]


def make_optimizer(name: OptimizerName, groups: Sequence[ParameterGroup], model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a name over parameter groups of a model, each with its own `lr` and `weight_decay`.

    Raises MissingError where its package is not here.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if name == "adafactor":
        from transformers.optimization import Adafactor  # brings PEFT and bitsandbytes along

        # As T5 is fine-tuned: at the learning rate that is asked for, not at one relative to step and weights.
        return Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False)
    on_gpu = any(parameter.is_cuda for group in groups for parameter in group["params"])
    return _adamw_8bit(groups, embedding_ids(model), paged=on_gpu and name.startswith("paged"))


def embedding_ids(model: nn.Module) -> set[int]:
    """The ids of the parameters that are embeddings."""
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}


def _adamw_8bit(groups: Sequence[ParameterGroup], whole: set[int], *, paged: bool) -> torch.optim.Optimizer:
    """AdamW with moments of 8 bits (Dettmers et al. 2022, arXiv 2110.02861), but for the parameters of the ids `whole`.

    The paper keeps the moments of embeddings in 32 bits, as their gradients vary most.
    """
    base: Any = library().optim.AdamW8bit

    class AdamW8bit(base):  # type: ignore[misc]  # bitsandbytes has no types
        """What bitsandbytes offers for exceptions holds for the whole process, and for later optimizers too."""

        def get_config(self, gindex: int, pindex: int, group: Mapping[str, Any]) -> dict[str, Any]:
            config: dict[str, Any] = super().get_config(gindex, pindex, group)
            return {**config, "optim_bits": 32} if id(group["params"][pindex]) in whole else config

    optimizer: torch.optim.Optimizer = AdamW8bit(groups, is_paged=paged)
    return optimizer
