"""Devices and number formats by the names that the command line uses."""

from __future__ import annotations

import torch

from compresskit.errors import MissingError, UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU. For a GPU, also choose how attention is computed.

    Raises MissingError where a GPU is asked for and there is none, UsageError for an unknown name.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}; use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise MissingError(
            "no CUDA device here; use --device cpu, or install a CUDA build of torch on a machine with a GPU"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # Torch prefers cuDNN's attention where there is a mask. That builds a plan for every new shape of a batch, within
    # a tenth of a second or more. Our batches have hundreds of shapes, and each step of decoding has its own.
    torch.backends.cuda.enable_cudnn_sdp(False)
    from compresskit.models.attention import never_look_at_masks  # transformers, which takes seconds

    never_look_at_masks()
    return torch.device("cuda")


def resolve_dtype(name: str) -> torch.dtype:
    """A torch dtype by name; UsageError for an unknown one."""
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; use {', '.join(DTYPES)}")
    return DTYPES[name]
