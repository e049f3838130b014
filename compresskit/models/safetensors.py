"""Looks into a checkpoint's safetensors files without loading them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compresskit.checkpoint.store import read_safetensors_metadata, weight_files


def tensor_names(folder: Path) -> Iterator[str]:
    """Names of all tensors in a folder's safetensors files.

    Raises InputError where a file is truncated or foreign.
    """
    from safetensors import safe_open

    for path in weight_files(folder):
        read_safetensors_metadata(path)
        with safe_open(path, framework="numpy") as file:
            yield from file.keys()


def find_tensor(folder: Path, prefixes: Sequence[str]) -> bool:
    """Whether a folder holds a tensor whose name starts with one of `prefixes`."""
    return any(name.startswith(tuple(prefixes)) for name in tensor_names(folder))
