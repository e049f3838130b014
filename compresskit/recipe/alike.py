"""Two folders of one checkpoint's files, compared: tensor by tensor where a file holds any, else byte by byte."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from compresskit.checkpoint import coded, mask
from compresskit.checkpoint.jobs import differences
from compresskit.checkpoint.store import read_json, read_safetensors_metadata, sha256_file

_CHUNK = 1 << 22  # numbers that are compared at once: in float64, 32 MB of each
_TOLD = 200  # letters of what differs between two files of settings


@dataclass(frozen=True, slots=True)
class Apart:
    """A tensor that is not bit for bit the same in two files.

    `share` is the fraction of its entries that differ. `absolute` is the largest difference of two entries, and
    `relative` that in parts of the largest number of the tensor as it was. Bits of masks, codes and other whole numbers
    have no such difference: `absolute` is None, and `relative` is the share.
    """

    name: str
    shape: tuple[int, ...]
    share: float
    absolute: float | None
    relative: float


@dataclass(frozen=True, slots=True)
class FileAlike:
    """A file of two folders: the number of `tensors` that were compared, and those that are `apart`.

    `problem` is why it cannot be the same: it is in one folder alone, or a tensor is. `change` says how it differs but
    for tensors. Both are "" where there is nothing to say. `is_same` tells that all bytes are the same.
    """

    name: str
    is_same: bool
    tensors: int = 0
    apart: tuple[Apart, ...] = ()
    problem: str = ""
    change: str = ""


def alike(then: Path, now: Path, names: Sequence[str]) -> list[FileAlike]:
    """How the files `names` of two folders compare. Raises InputError for a file that is damaged."""
    return [_file(then / name, now / name) for name in names]


def _file(then: Path, now: Path) -> FileAlike:
    name = then.name
    for path, missing in ((then, "new"), (now, "gone")):
        if not path.is_file():
            holds = _holds_tensors(then) or name.endswith((".onnx_data", ".onnx.data"))
            told = f"it is {missing}"
            return FileAlike(name, False, problem=told) if holds else FileAlike(name, False, change=told)
    is_same = sha256_file(then) == sha256_file(now)
    if not _holds_tensors(then):
        return FileAlike(name, is_same, change="" if is_same else _change(then, now))
    first, second = _read(then), _read(now)
    if odd := sorted(first.entries.keys() ^ second.entries.keys()):
        where = "gone" if odd[0] in first.entries else "new"
        return FileAlike(name, False, len(first.entries), problem=f"the tensor {odd[0]} is {where}")
    if first.rest != second.rest:
        return FileAlike(name, False, len(first.entries), problem="the graph computes otherwise")
    apart = []
    for key in sorted(first.entries):
        one, two = first.get(key), second.get(key)
        if (one.shape, one.dtype) != (two.shape, two.dtype):
            told = f"the tensor {key} was {_told(one)} and is {_told(two)}"
            return FileAlike(name, False, len(first.entries), problem=told)
        if (found := _apart(key, one, two)) is not None:
            apart.append(found)
    change = "" if is_same or apart else "the same tensors, in other bytes"
    return FileAlike(name, is_same, len(first.entries), tuple(apart), change=change)


def _told(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _change(then: Path, now: Path) -> str:
    """How two files without tensors differ, in words."""
    if then.suffix == ".json":
        first, second = read_json(then), read_json(now)
        if isinstance(first, dict) and isinstance(second, dict):
            told = differences(first, second)
            return told if len(told) <= _TOLD else f"{told[:_TOLD]}…"
    return f"{then.stat().st_size:,} bytes then, {now.stat().st_size:,} now"


@dataclass(frozen=True, slots=True)
class _Content:
    """The tensors of a file: `entries` by name, each asked of `get`; the `rest` is what it holds beside them."""

    entries: Mapping[str, Any]
    get: Callable[[str], Tensor]
    rest: bytes = b""


def _holds_tensors(path: Path) -> bool:
    """Whether a file's tensors can be compared; a graph's by the package onnx alone."""
    is_graph = path.suffix == ".onnx" and importlib.util.find_spec("onnx") is not None
    return path.suffix == ".safetensors" or is_graph


def _read(path: Path) -> _Content:
    if path.name == mask.FILE:
        masks = mask.load_masks(path.parent)
        return _Content(masks, lambda name: torch.from_numpy(masks[name].bits))
    if path.name == coded.FILE:
        tensors = coded.load_coded(path.parent)
        return _Content(tensors, lambda name: tensors[name])
    return _graph(path) if path.suffix == ".onnx" else _safetensors(path)


def _safetensors(path: Path) -> _Content:
    read_safetensors_metadata(path)  # whether it is whole
    file: Any = safe_open(path, framework="pt")
    names = dict.fromkeys(file.keys())

    def get(name: str) -> Tensor:
        tensor: Tensor = file.get_tensor(name)
        # What bitsandbytes packed in 4 bits may be kept as floats, of which the bytes alone mean something.
        return tensor.reshape(-1).view(torch.uint8) if f"{name}.absmax" in names else tensor

    return _Content(names, get)


def _graph(path: Path) -> _Content:
    """The initializers of a graph, and all else of it."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    del model.graph.initializer[:]
    return _Content(arrays, lambda name: _tensor(arrays[name]), model.SerializeToString(deterministic=True))


def _tensor(array: NDArray[Any]) -> Tensor:
    """An array as a tensor; its bytes where torch has no such numbers."""
    copy = np.array(array)
    return torch.from_numpy(copy if copy.dtype.kind in "fiub" else np.frombuffer(copy.tobytes(), np.uint8).copy())


def _apart(name: str, then: Tensor, now: Tensor) -> Apart | None:
    """How two tensors of one shape and format differ; None where they are the same bit for bit."""
    differing, absolute, largest = 0, 0.0, 0.0
    if not then.numel():
        return None
    for one, two in _chunks(then, now):
        differs = (one.view(torch.uint8) != two.view(torch.uint8)).reshape(len(one), -1).any(dim=1)
        differing += int(differs.sum())
        if then.is_floating_point() and bool(differs.any()):
            gap = (one[differs].double() - two[differs].double()).abs().nan_to_num(nan=float("inf"))
            absolute = max(absolute, float(gap.max()))
        if then.is_floating_point():  # what is not finite measures nothing
            largest = max(largest, float(one.double().abs().nan_to_num(nan=0.0, posinf=0.0).max()))
    if not differing:
        return None
    share = differing / then.numel()
    if not then.is_floating_point():
        return Apart(name, tuple(then.shape), share, None, share)
    relative = absolute / largest if largest else float("inf") if absolute else 0.0
    return Apart(name, tuple(then.shape), share, absolute, relative)


def _chunks(then: Tensor, now: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Equal parts of two tensors of one shape, as rows of numbers."""
    parts = [torch.split(each.contiguous().reshape(-1), _CHUNK) for each in (then, now)]
    return zip(*parts, strict=True)
