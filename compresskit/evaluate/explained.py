"""What the bytes of a checkpoint's folder are, and whether its parameters explain them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from compresskit.checkpoint.headers import read_headers
from compresskit.checkpoint.manifest import FILE as MANIFEST
from compresskit.checkpoint.store import indexed_names
from compresskit.evaluate.measure import folder_files
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import singles
from compresskit.evaluate.units import count, size
from compresskit.models.source import NOT_NEEDED, TEXTS, own_files

WEIGHTS, TOKENIZER, TRAINING, OTHER = "weights", "tokenizer", "training", "other"
"""The parts of a folder; all together are its bytes. `tokenizer` counts the settings too."""

# Bits of one number in the formats of safetensors.
_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16}
# What is less than this, and than this part, needs no explanation.
_BYTES, _PART = 1_000_000, 0.1
_NAMED = 3


def bytes_explained(folder: Path) -> dict[str, int]:
    """The bytes of a folder's files by their part, and of which, as `part.detail`, formats and the largest other files.

    A file with several names counts once. Raises InputError where a file of weights is damaged.
    """
    folder = folder.resolve()
    parts: Counter[str] = Counter(dict.fromkeys((WEIGHTS, TOKENIZER, TRAINING, OTHER), 0))
    others: Counter[str] = Counter()
    read = weights_read(folder)
    for path in folder_files(folder):
        part = _part(path, folder, read)
        parts[part] += path.stat().st_size
        if part == OTHER:
            others[f"{OTHER}.{path.relative_to(folder)}"] += path.stat().st_size
    return {**parts, **_formats(read), **dict(others.most_common(_NAMED))}


def weights_read(folder: Path) -> list[Path]:
    """The files of weights that are opened: of a plain folder the one that transformers takes, or its index names."""
    own = {path.name: path for path in own_files(folder) if ".safetensors" in path.suffixes or ".onnx" in path.suffixes}
    own = {name: path for name, path in own.items() if path.suffix != ".json"}
    index = folder / "model.safetensors.index.json"
    if not (folder / MANIFEST).is_file() and "model.safetensors" in own:
        return [own["model.safetensors"]]
    if not (folder / MANIFEST).is_file() and index.is_file():
        return [own[name] for name in sorted(indexed_names(index)) if name in own]
    return list(own.values())


def _part(path: Path, folder: Path, read: list[Path]) -> str:
    inner = path.relative_to(folder)
    if path in read:
        return WEIGHTS
    left = any(fnmatch(path.name, pattern) for pattern in NOT_NEEDED) and not path.name.startswith(".")
    if left or inner.parts[0].startswith("checkpoint-"):
        return TRAINING
    settings = path.suffix in (*TEXTS, ".jinja") and len(inner.parts) == 1
    return TOKENIZER if settings else OTHER


def _formats(read: list[Path]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for path in read:
        for header in read_headers(path).values() if path.suffix == ".safetensors" else ():
            found[f"{WEIGHTS}.{header.dtype}"] += math.prod(header.shape) * _BITS.get(header.dtype, 8) // 8
    return dict(found.most_common())


def told_bytes(report: Report) -> list[str]:
    """A line for each row whose files are larger or smaller than its parameters explain."""
    return [line for row in singles(report.rows) if (line := _told(row)) is not None]


def _told(row: Row) -> str | None:
    parts, total = row.bytes_explained, row.disk_bytes
    if not parts or total is None:
        return None
    rest = parts.get(TRAINING, 0) + parts.get(OTHER, 0)
    if rest > max(_BYTES, _PART * total):
        return f"{row.name}: {size(total)} on disk, {_list(parts)}"
    weights, wanted = parts.get(WEIGHTS, 0), _wanted(row, parts)
    if wanted is None or abs(weights - wanted) <= max(_BYTES, _PART * wanted):
        return None
    formats = ", ".join(f"{size(n)} {name}" for name, n in _details(parts, WEIGHTS).items())
    line = f"{row.name}: {size(weights)} of weights for {count(row.params_total or 0)} parameters ({formats})"
    if weights > wanted:
        return f"{line}, where {size(wanted)} would do: tensors are there twice, or none of the model's"
    if row.deploy_bytes is not None and row.deploy_bytes - total > _PART * row.deploy_bytes:
        return f"{line}; the rest is the base that it stands on"
    return f"{line}: several of them share a byte, or are left out"


def _wanted(row: Row, parts: Mapping[str, int]) -> int | None:
    """The bytes of the parameters in the format that most of the weights have; None where one is not known."""
    formats = _details(parts, WEIGHTS)
    if not formats or row.params_total is None:
        return None
    return row.params_total * _BITS.get(next(iter(formats)), 8) // 8


def _details(parts: Mapping[str, int], part: str) -> dict[str, int]:
    return {key.removeprefix(f"{part}."): n for key, n in parts.items() if key.startswith(f"{part}.")}


def _list(parts: Mapping[str, int]) -> str:
    names = ", ".join(_details(parts, OTHER))
    told = {
        WEIGHTS: "weights",
        TOKENIZER: "tokenizer and settings",
        TRAINING: "states of a training",
        OTHER: f"other files, which are not read ({names})",
    }
    return "of which " + ", ".join(f"{size(parts[key])} {what}" for key, what in told.items() if parts.get(key))
