"""What a checkpoint of a recipe was made by, kept beside it: so that one of which nothing changed is not made again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.checkpoint.jobs import differences
from compresskit.checkpoint.store import read_json, sha256_file, write_json
from compresskit.data import Split
from compresskit.data.load import files_of, local_files
from compresskit.errors import InputError
from compresskit.methods.job import Job, with_data
from compresskit.models.kinds import fingerprint
from compresskit.models.prompt import Prompt
from compresskit.recipe.recipe import Checkpoint
from compresskit.training.arguments import PLACE, TrainingOptions

SCHEMA = "compresskit.step/1"


@dataclass(frozen=True, slots=True)
class Record:
    """What makes a checkpoint: the method, the options given, and the hashes of what is read; `done` once it is made.

    Options that say where and how to run, not what, are left out.
    """

    method: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    done: bool = False

    @property
    def content(self) -> dict[str, Any]:
        """All that decides the result."""
        return {"method": self.method, "options": dict(self.options), "inputs": dict(self.inputs)}

    @property
    def sha256(self) -> str:
        """The hash of the content."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def changes(self, known: Record) -> str:
        """How this record differs from the one that is kept, in words."""
        told = differences(known.content, self.content)
        return told if len(told) <= 200 else f"{told[:200]}…"

    def write(self, folder: Path, *, done: bool) -> None:
        """Keep the record beside a checkpoint's folder."""
        write_json(place_of(folder), {"schema": SCHEMA, "sha256": self.sha256, "done": done, **self.content})


def place_of(folder: Path) -> Path:
    """Where the record of a checkpoint's folder lies."""
    return folder.with_name(f"{folder.name}.step.json")


def read_record(folder: Path) -> Record | None:
    """The record that is kept of a checkpoint's folder; None where there is none. InputError where it is damaged."""
    path = place_of(folder)
    if not os.path.lexists(path):
        return None
    raw = read_json(path)
    mend = f"remove it and {folder}, and run the recipe again"
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise InputError(f"{path} is not the record of a step ({SCHEMA}); {mend}")
    method, options, inputs = (raw.get(key) for key in ("method", "options", "inputs"))
    if not isinstance(method, str) or not isinstance(options, dict) or not isinstance(inputs, dict):
        raise InputError(f"{path} is damaged; {mend}")
    record = Record(method, options, inputs, raw.get("done") is True)
    if record.sha256 != raw.get("sha256"):
        raise InputError(f"{path} is damaged (its hash is another); {mend}")
    return record


def record_of(checkpoint: Checkpoint, job: Job) -> Record:
    """The record of a checkpoint whose inputs are there. Raises the errors of resolving and reading those."""
    given = {name: value for name, value in checkpoint.values.items() if name not in (*PLACE, "teacher")}
    options = {name: _as_json(value) for name, value in sorted(given.items())}
    return Record(checkpoint.verb.name, options, dict(_inputs(job)))


def _inputs(job: Job) -> Iterator[tuple[str, str]]:
    """Yield what a job reads, with a hash: of content where it lies on this machine, else of the reference."""
    options = job.options
    architecture = options.architecture if isinstance(options, TrainingOptions) else None
    yield "base", options.model if architecture is not None else fingerprint(str(options.source.path))
    if job.distillation.teacher is not None:
        yield "teacher", fingerprint(job.distillation.teacher)
    for path in architecture.reads() if architecture is not None else ():
        yield f"file {path}", sha256_file(path)
    for path in job.reads:
        yield f"file {path}", _hash([path], "eval")
    data = with_data(options).data if isinstance(options, TrainingOptions) else getattr(job.config, "train_data", None)
    if data is not None:  # a set that does not lie here is known by its name
        yield "train_data", _hash(local_files(data), "train") if local_files(data) else data


def _hash(paths: Sequence[Path], split: Split) -> str:
    """The hash of the files of a split of data on this machine."""
    files = [file for path in paths for file in ([path] if path.is_file() else files_of(path, split))]
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()


def _as_json(value: Any) -> Any:
    if isinstance(value, Prompt):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
