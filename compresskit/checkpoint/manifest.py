"""The manifest `compresskit.json` of a checkpoint: what it is, what it stands on, and how it came to be."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compresskit import __version__
from compresskit.checkpoint.listing import Listed, list_files
from compresskit.checkpoint.store import read_json, write_json
from compresskit.errors import InputError
from compresskit.text import finite_or_none

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = "compresskit.checkpoint/1"
FILE = "compresskit.json"

DECISIVE = (
    *("torch", "transformers", "accelerate", "numpy", "tokenizers", "peft", "bitsandbytes", "compressed-tensors"),
    *("onnxruntime", "onnxruntime-gpu", "mamba-ssm", "scipy", "zstandard", "sacrebleu", "rouge-score", "lm_eval"),
)
"""Packages whose version may change what a checkpoint answers, or how a figure is counted."""

KindName = Literal["full", "mask", "adapter", "quantized", "onnx"]

# Metrics that are computed with or rounded where they are shown; None where one was not measured.
_NUMBERS = ("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "params_trainable", "sparsity", "train_loss")


@dataclass(frozen=True, slots=True)
class Base:
    """The checkpoint that an overlay stands on: its reference (folder or Hub id), revision, and hash of its weights."""

    ref: str
    revision: str | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Data:
    """The data that a step saw: reference, SHA-256 of its bytes, and how many questions were used.

    `counts` is what was mended or left out while the whole source was read, of each kind.
    """

    path: str
    sha256: str
    questions: int
    unanswerable: int
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a checkpoint's history: a method with its whole configuration, and what came of it.

    `wall_time_s` is in seconds; `metrics` are the last figures of the run (loss, sparsity, …), per cent where a
    metric of evaluation. `choices` is what a run has decided by itself, in words (how it computed). Raises ValueError
    for a time below 0, and for a figure that is no number.
    """

    method: str
    config: Mapping[str, Any]
    seed: int
    data: Data | None
    wall_time_s: float
    metrics: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=lambda: package_versions())
    choices: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.wall_time_s < 0:
            raise ValueError("wall_time_s is below 0")
        for name in _NUMBERS:
            value = self.metrics.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"the metric {name} is not a number")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of `compresskit.json`; `steps` starts with the oldest.

    `files` are the others of its folder, by name; None in a checkpoint that was made before they were listed. Raises
    ValueError for a name that leads elsewhere.
    """

    # How pydantic reads it and all within: no text for a number, no key that is not known.
    __pydantic_config__: ClassVar[Mapping[str, object]] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}

    family: str
    kind: KindName
    base: Base | None
    steps: Sequence[Step]
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    files: Mapping[str, Listed] | None = None

    def __post_init__(self) -> None:
        for name in self.files or ():
            if name in ("", ".", "..", FILE) or "/" in name or "\0" in name:
                raise ValueError(f"files: {name!r} is not the name of another file in its folder")

    @property
    def method(self) -> str:
        """Name of the last step's method, such as `prune/smp`."""
        return self.steps[-1].method if self.steps else "-"

    def add(self, step: Step, *, kind: KindName, base: Base | None) -> Manifest:
        """The manifest of a checkpoint made from this one by `step`."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(self, kind=kind, base=base, steps=[*self.steps, step], created=created, files=None)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as it stands in its file; a figure that is not finite counts as not measured."""
        steps = [replace(step, metrics=finite_or_none(step.metrics)) for step in self.steps]
        return {"schema": SCHEMA, **asdict(replace(self, steps=steps))}

    def write(self, folder: Path) -> None:
        """Write the manifest into a checkpoint folder whose other files are all there, and list them in it."""
        write_json(folder / FILE, replace(self, files=list_files(folder, but=FILE)).to_dict())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint folder, or None where the folder has none (a checkpoint of another tool).

    Raises InputError where the file is broken, of another schema, or a key is missing, misspelled or of another type.
    """
    path = folder / FILE
    if not path.exists():
        return None
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise InputError(f"{path} has schema {found!r}; this version of compresskit reads {SCHEMA!r}")
    del raw["schema"]
    return _typed(raw, path)


def _typed(raw: dict[str, Any], path: Path) -> Manifest:
    """The manifest of a JSON object; InputError naming the first key that is not as the dataclasses say."""
    from pydantic import ValidationError

    try:
        # Of Python's values pydantic would take a tuple for a list. A missing date is not that of today.
        return _reader().validate_json(json.dumps({"created": None, **raw}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        told = f"{place}: " * bool(place) + first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"{path} is not a manifest ({told}); it is damaged: copy or make the checkpoint again"
        ) from error


@functools.cache
def _reader() -> TypeAdapter[Manifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result, of those that are installed."""
    versions = {"python": platform.python_version(), "compresskit": __version__}
    for name in DECISIVE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
