"""What a run decides by itself, told: in one line before it begins, and in its step of the manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from compresskit.models.device import resolve_device
from compresskit.models.loaded import TrainableModel
from compresskit.models.loading import attention_dropout_of
from compresskit.models.mamba import is_mamba
from compresskit.models.tasks.batching import PAD_MULTIPLE
from compresskit.training.arguments import TrainingOptions
from compresskit.training.computing import compute_dtype

# In words that need nothing beside them; the keys are those of the manifest.
Choices = Mapping[str, str | int]

_LEFT_OUT = "left out (the model has {:g}; --attention-dropout model keeps it)"


def leaves_out_attention_dropout(options: TrainingOptions) -> bool:
    """Whether a run trains without the dropout of attention weights: where it is told to, and on a CPU.

    There, that dropout turns the fused attention off, and makes a step about four times slower.
    """
    if options.attention_dropout == "auto":
        return resolve_device(options.device).type == "cpu"
    return options.attention_dropout == "none"


def choices_of(options: TrainingOptions, loaded: TrainableModel) -> Choices:
    """What a run of these options on this model decides by itself: where and how it computes, and makes batches."""
    device = resolve_device(options.device).type
    dtype = compute_dtype(options)
    found: dict[str, str | int] = {"device": _device(device), "processes": int(os.environ.get("WORLD_SIZE", "1"))}
    if device == "cpu":
        found["threads"] = torch.get_num_threads()
    found["numbers"] = dtype if dtype == "float32" else f"{dtype}, weights learn in float32"
    if device == "cuda":
        found["float32_products"] = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "float32"
    found |= _layers(options, loaded, device)
    found["batches"] = f"windows of like length together, padded to a multiple of {PAD_MULTIPLE}"
    return found


def told(choices: Choices) -> str:
    """The choices in one line."""
    return "computes with: " + "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in choices.items())


def _device(kind: str) -> str:
    return kind if kind == "cpu" else torch.cuda.get_device_name()


def _layers(options: TrainingOptions, loaded: TrainableModel, device: str) -> Choices:
    """How the layers compute: attention and its dropout, or the scan of a Mamba."""
    if is_mamba(loaded.model):
        return {"scan": _scan(device)}
    if loaded.family.name == "lstm":
        return {}
    config: Any = loaded.model.config
    way = str(getattr(config, "_attn_implementation", None) or "eager")
    found = {"attention": f"{way}, without cuDNN's kernel" if (way, device) == ("sdpa", "cuda") else way}
    if rate := attention_dropout_of(config):
        out = leaves_out_attention_dropout(options)
        found["attention_dropout"] = _LEFT_OUT.format(rate) if out else f"{rate:g}"
    return found


def _scan(device: str) -> str:
    from compresskit.models.mamba.kernels import kernels_for

    found = kernels_for(torch.empty(0, device=device))
    return "PyTorch's own operations" if found is None else "the kernels of mamba-ssm"
