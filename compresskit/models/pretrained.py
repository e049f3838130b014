"""The one place where transformers opens the weights of a folder, and what it says of them is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from compresskit.models.folder import NOTHING_FOREIGN
from compresskit.models.foreign import check_places


def from_folder(
    auto: Any, folder: Path, config: PretrainedConfig, dtype: torch.dtype, head: Callable[[PreTrainedModel], set[str]]
) -> tuple[PreTrainedModel, set[str]]:
    """A model opened by the class `auto`, in numbers of `dtype`; also the names of parameters that the folder lacks.

    `head` gives the names of those that it may lack. Raises InputError where a tensor of the folder has no place in the
    model, and is not known to change no answer.
    """
    opened: Any = auto.from_pretrained(
        folder, config=config, dtype=dtype, output_loading_info=True, use_safetensors=True, **NOTHING_FOREIGN
    )
    model, info = opened
    missing = set(info["missing_keys"])
    check_places(folder, info["unexpected_keys"], told_otherwise=not missing <= head(model))
    return model, missing
