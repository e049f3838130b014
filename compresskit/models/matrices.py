"""The matrices of the repeated blocks in a folder's safetensors files, read one at a time; no model is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from compresskit.checkpoint.store import read_safetensors_metadata, weight_files
from compresskit.models.kind import Matrix

# A weight of a numbered block, under whatever name its module keeps it.
IN_BLOCK = re.compile(r"\.\d+\..*\bweight\w*$")


def stored_matrices(folder: Path) -> list[Matrix]:
    """The two-dimensional weights, by layer and name. Raises InputError where a file is damaged or foreign."""
    return in_order(matrix for path in weight_files(folder) for matrix in file_matrices(path))


def in_order(matrices: Iterator[Matrix]) -> list[Matrix]:
    """Matrices by layer and name."""
    return sorted(matrices, key=lambda matrix: (matrix.layer, matrix.name))


def dtype_name(tensor: torch.Tensor) -> str:
    """A tensor's number format, such as `float16`."""
    return str(tensor.dtype).removeprefix("torch.")


def file_matrices(path: Path) -> Iterator[Matrix]:
    """The two-dimensional weights of a safetensors file. Raises InputError where it is damaged or foreign."""
    read_safetensors_metadata(path)
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if IN_BLOCK.search(name) and len(file.get_slice(name).get_shape()) == 2:
                tensor = file.get_tensor(name)
                remaining = int(torch.count_nonzero(tensor))
                yield Matrix(name, tuple(tensor.shape), dtype_name(tensor), remaining, tensor.numel())
