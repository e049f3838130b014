"""The manifest `compresskit.json` of a checkpoint: what it is, what it stands on, and how it came to be."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from compresskit import __version__
from compresskit.checkpoint.store import read_json, write_json
from compresskit.errors import InputError
from compresskit.text import finite_or_none

SCHEMA = "compresskit.checkpoint/1"
FILE = "compresskit.json"

DECISIVE = (
    *("torch", "transformers", "accelerate", "numpy", "tokenizers", "peft", "bitsandbytes", "compressed-tensors"),
    *("onnxruntime", "onnxruntime-gpu", "mamba-ssm", "scipy", "zstandard", "sacrebleu", "rouge-score", "lm_eval"),
)
"""Packages whose version may change what a checkpoint answers, or how a figure is counted."""

KindName = Literal["full", "mask", "adapter", "quantized", "onnx"]


@dataclass(frozen=True, slots=True)
class Base:
    """The checkpoint that an overlay stands on: its reference (folder or Hub id), revision, and hash of its weights."""

    ref: str
    revision: str | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Data:
    """The data that a step saw: reference, SHA-256 of its bytes, and how many questions were used."""

    path: str
    sha256: str
    questions: int
    unanswerable: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a checkpoint's history: a method with its whole configuration, and what came of it.

    `wall_time_s` is in seconds; `metrics` are the last figures of the run (loss, sparsity, …), per cent where a
    metric of evaluation.
    """

    method: str
    config: Mapping[str, Any]
    seed: int
    data: Data | None
    wall_time_s: float
    metrics: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=lambda: package_versions())


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of `compresskit.json`; `steps` starts with the oldest."""

    family: str
    kind: KindName
    base: Base | None
    steps: Sequence[Step]
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def method(self) -> str:
        """Name of the last step's method, such as `prune/smp`."""
        return self.steps[-1].method if self.steps else "-"

    def add(self, step: Step, *, kind: KindName, base: Base | None) -> Manifest:
        """The manifest of a checkpoint made from this one by `step`."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(self, kind=kind, base=base, steps=[*self.steps, step], created=created)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as it stands in its file; a figure that is not finite counts as not measured."""
        steps = [replace(step, metrics=finite_or_none(step.metrics)) for step in self.steps]
        return {"schema": SCHEMA, **asdict(replace(self, steps=steps))}

    def write(self, folder: Path) -> None:
        """Write the manifest into a checkpoint folder."""
        write_json(folder / FILE, self.to_dict())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint folder, or None where the folder has none (a checkpoint of another tool).

    Raises InputError where the file is broken, of another schema, or lacks a key.
    """
    path = folder / FILE
    if not path.exists():
        return None
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise InputError(f"{path} has schema {found!r}; this version of compresskit reads {SCHEMA!r}")
    try:
        return _from_json(raw)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} lacks or misspells a key ({error}); it is damaged: copy or make it again") from error


def _from_json(raw: dict[str, Any]) -> Manifest:
    if raw["kind"] not in get_args(KindName):
        raise TypeError(f"kind {raw['kind']!r} is none of {', '.join(get_args(KindName))}")
    steps = [Step(**{**step, "data": Data(**step["data"]) if step["data"] else None}) for step in raw["steps"]]
    base = Base(**raw["base"]) if raw["base"] else None
    return Manifest(raw["family"], raw["kind"], base, steps, raw["created"])


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result, of those that are installed."""
    versions = {"python": platform.python_version(), "compresskit": __version__}
    for name in DECISIVE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
