"""What others may see of a place on this machine: the name of its file or folder, not the way there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compresskit.data.load import local_files


def named(ref: str) -> str:
    """A reference to a model or to data: of a place on this machine the name alone, else what it is."""
    is_place = os.path.isabs(ref) or ref.startswith(("../", "~/")) or local_files(ref)
    return (Path(ref).name or ref) if is_place else ref


def public(value: Any) -> Any:
    """The same value of JSON, with the name alone in the place of each text in it that is a place on this machine.

    The texts of a prompt stay: with others the model would answer otherwise.
    """
    if isinstance(value, str):
        return named(value)
    if isinstance(value, Mapping):
        return {key: each if key == "prompt_template" else public(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [public(each) for each in value]
    return value
