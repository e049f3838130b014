"""Mamba: the selective scan without CUDA kernels, and adapters that every path of computation sees."""

from __future__ import annotations

from typing import Any

MODELS = ("mamba", "mamba2", "falcon_mamba")
"""The types of models that are meant, as configurations call them."""


def is_mamba(model: Any) -> bool:
    """Whether a model of transformers is a Mamba of some sort."""
    return model.config.model_type in MODELS
