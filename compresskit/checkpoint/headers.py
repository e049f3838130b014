"""The tensors of safetensors files by name, number format and shape; none of them is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compresskit.checkpoint.store import read_safetensors_metadata, weight_files

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""What safetensors calls the formats of numbers that are weights as they stand."""


@dataclass(frozen=True, slots=True)
class Header:
    """A tensor as its file tells of it; `dtype` is safetensors' name of its format, such as `F32`."""

    dtype: str
    shape: tuple[int, ...]


def read_headers(path: Path) -> dict[str, Header]:
    """The headers of a file's tensors by name. Raises InputError where the file is missing, truncated or foreign."""
    from safetensors import safe_open

    read_safetensors_metadata(path)
    found = {}
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            tensor = file.get_slice(name)
            found[name] = Header(tensor.get_dtype(), tuple(tensor.get_shape()))
    return found


def headers_in(folder: Path) -> dict[str, Header]:
    """Those of all safetensors files of a checkpoint's folder; raises what `weight_files` and `read_headers` raise."""
    return {name: each for path in weight_files(folder) for name, each in read_headers(path).items()}
