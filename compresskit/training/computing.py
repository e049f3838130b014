"""What a step computes, and in which numbers: what a run and its plan have in common.

It needs no Trainer, whose import takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.models.device import DTYPES, resolve_device
from compresskit.models.task import Batch
from compresskit.training.arguments import TrainingOptions

# The loss of a batch, a mean over its rows of choices: (model, batch, fraction of the run's steps done) -> scalar.
Objective = Callable[[nn.Module, Batch, float], Tensor]


def checkpoint_activations(model: Any) -> None:
    """Let a transformer keep the inputs of its blocks alone, and compute the rest again.

    Chen et al. 2016, arXiv 1604.06174.
    """
    with warnings.catch_warnings():  # of what transformers will call it in its next version
        warnings.simplefilter("ignore", FutureWarning)
        # The other way needs inputs that learn, which frozen layers do not have.
        model.gradient_checkpointing_enable({"use_reentrant": False})


def compute_dtype(options: TrainingOptions) -> str:
    """`auto` is bf16 on a GPU, fp32 on a CPU (where bf16 without AMX is several times slower)."""
    if options.dtype != "auto":
        return options.dtype
    return "bfloat16" if resolve_device(options.device).type == "cuda" else "float32"


def computing_in(dtype: str, device: torch.device) -> torch.autocast:
    """Within it a model whose weights are in fp32 computes in `dtype` on a device."""
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32")
