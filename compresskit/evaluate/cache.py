"""Outcomes that are kept: an unchanged checkpoint on unchanged data is not measured again.

An entry is a sealed folder named by its key: the outcome, the answers, and which data they are about. What is not as it
was written counts as not there. The key covers the bytes
of every file that the checkpoint needs, those of the data, the settings, the versions of the packages and of this one's
own code, and the machine, since memory and time are the machine's.

An evaluation works on copies of what an entry holds. So any process may remove any entry at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import compresskit
from compresskit import console
from compresskit.checkpoint.manifest import package_versions
from compresskit.checkpoint.seal import broken, seal
from compresskit.checkpoint.store import write_text
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.answers import read_answers
from compresskit.evaluate.cache_place import FOLDER_VARIABLE, cache_folder
from compresskit.evaluate.machine import cpu_name, cpus
from compresskit.evaluate.measurement import PREDICTIONS_FILE, Outcome
from compresskit.evaluate.row import Dataset
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.units import BYTES

SIZE_VARIABLE = "COMPRESSKIT_CACHE_SIZE"
DEFAULT_SIZE = "1GB"
DATASET_FILE = "dataset.json"

_DAY = 24 * 3600.0
_ENTRY = re.compile("[0-9a-f]{64}")  # the user may have named a folder that holds other things too
_UNFINISHED = ".new-"
_GPUS = Path("/proc/driver/nvidia/gpus")
# What decides where and how fast a checkpoint runs, and is not part of the settings.
_ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "WORLD_SIZE")


def cache_limit() -> int:
    """How many bytes the entries may take: $COMPRESSKIT_CACHE_SIZE, else 1 GB; UsageError for a bad value."""
    text = os.environ.get(SIZE_VARIABLE) or DEFAULT_SIZE
    units = {unit.lower(): factor for unit, factor in BYTES.suffixes.items()}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", text.strip())
    if found is None or (found[2] or "B").lower() not in units:
        raise UsageError(f"{SIZE_VARIABLE}={text!r} is not a size; write a number and a unit, such as 500MB or 2GB")
    return int(float(found[1]) * units[(found[2] or "B").lower()])


def entry_key(checkpoint: str, data: Sequence[str], settings: EvalSettings) -> str:
    """The name of an entry: a SHA-256 in hex over all that a measurement depends on.

    `checkpoint` is the hash of the checkpoint's files, `data` those of the data sets.
    """
    parts = {
        "checkpoint": checkpoint,
        "data": list(data),
        "settings": settings.to_dict(),
        "versions": package_versions(),
        "code": _own_code(),
        "machine": _machine(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder of the cache: the bytes in it, and when it was last used, in seconds since 1970."""

    folder: Path
    bytes: int
    used: float

    def outcome(self) -> Outcome | None:
        """What was measured; None where a file is missing or damaged."""
        return _read(self.folder)

    def data(self) -> str | None:
        """The path or Hub id of the data; None where a file is missing or damaged."""
        if broken(self.folder) is not None:
            return None
        try:
            return Dataset(**json.loads((self.folder / DATASET_FILE).read_text(encoding="utf-8"))).path
        except (OSError, ValueError, TypeError):  # removed meanwhile, or from another version
            return None


class Cache:
    """The kept outcomes, for one evaluation: what that has read or written stays, whatever the limit says.

    Raises UsageError where the limit in the environment is not a size.
    """

    def __init__(self) -> None:
        self.folder = cache_folder()
        self.limit = cache_limit()
        self._in_use: set[Path] = set()
        self._told = False

    def fetch(self, key: str, folder: Path) -> Outcome | None:
        """A kept outcome, with its answers copied to `folder`; None where there is none that is whole."""
        entry = self.folder / key
        outcome = _read(entry)
        if outcome is None:
            return None
        if len(outcome.question_em):
            try:
                shutil.copyfile(entry / PREDICTIONS_FILE, folder / PREDICTIONS_FILE)
            except OSError:  # removed meanwhile
                return None
        with contextlib.suppress(OSError):  # a cache that may only be read
            os.utime(entry)
        self._in_use.add(entry)
        return outcome

    def keep(self, key: str, outcome: Outcome, folder: Path, dataset: Dataset) -> Path | None:
        """Make an entry of an outcome and of the answers in `folder`, in place of an older one; return its folder.

        Then the entries that were not used for longest go, until the limit holds. None where nothing can be written,
        with a warning.
        """
        entry = self.folder / key
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            with temporary_folder(self.folder, _UNFINISHED) as made:
                staged = made / key
                staged.mkdir()
                outcome.write(staged)
                write_text(staged / DATASET_FILE, json.dumps(dataset.to_dict()))
                if (folder / PREDICTIONS_FILE).is_file():
                    shutil.copyfile(folder / PREDICTIONS_FILE, staged / PREDICTIONS_FILE)
                seal(staged)
                shutil.rmtree(entry, ignore_errors=True)
                staged.rename(entry)
        except OSError as error:
            if not entry.is_dir():  # else another evaluation was quicker, with the same result
                self._tell(error)
                return None
        self._in_use.add(entry)
        self._trim()
        return entry

    def _tell(self, error: OSError) -> None:
        """Warn that nothing can be kept, once however many checkpoints there are."""
        if not self._told:
            console.warn(
                f"{self.folder}: nothing can be kept there ({error.strerror or type(error).__name__}); "
                f"set {FOLDER_VARIABLE} to another folder, one with room"
            )
        self._told = True

    def entries(self) -> list[Entry]:
        """What is kept, the entry last used first."""
        try:
            folders = [path for path in self.folder.iterdir() if _ENTRY.fullmatch(path.name) and path.is_dir()]
        except OSError:  # there is no such folder yet
            return []
        found = []
        for folder in folders:
            with contextlib.suppress(OSError):  # another process removes it just now
                size = sum(path.stat().st_size for path in folder.iterdir())
                found.append(Entry(folder, size, folder.stat().st_mtime))
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def clear(self, days: float = 0.0) -> list[Entry]:
        """Remove the entries that were not used for so many days, and return them; OSError where one has to stay."""
        old = [entry for entry in self.entries() if time.time() - entry.used >= days * _DAY]
        for entry in old:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(entry.folder)
        self._sweep()
        return old

    def _trim(self) -> None:
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        for entry in reversed(entries):
            if total <= self.limit:
                return
            if entry.folder not in self._in_use:
                shutil.rmtree(entry.folder, ignore_errors=True)
                total -= entry.bytes

    def _sweep(self) -> None:
        """Remove what evaluations left that were killed a day ago or earlier."""
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _DAY:
                    shutil.rmtree(left, ignore_errors=True)


def _read(entry: Path) -> Outcome | None:
    """The outcome in an entry's folder; None where there is none, or a file of it is not as it was written."""
    if broken(entry) is not None:
        return None
    try:
        outcome = Outcome.read(entry)
        questions = len(outcome.question_em)
        answers = len(read_answers(entry / PREDICTIONS_FILE)) if questions else 0
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InputError):  # as above
        return None
    return outcome if outcome.row is not None and answers == questions else None


@functools.cache
def _own_code() -> str:
    digest = hashlib.sha256()
    root = Path(compresskit.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _machine() -> list[str]:
    """What tells machines apart, found without torch: processor, system, GPUs and their settings."""
    # One after the other, since a machine whose driver has no such folder has no NVIDIA GPU.
    gpus = sorted(path.read_text(errors="replace") for path in _GPUS.glob("*/information")) if _GPUS.is_dir() else []
    variables = [f"{name}={os.environ.get(name, '')}" for name in _ENVIRONMENT]
    return [platform.platform(), cpu_name(), str(cpus()), *gpus, *variables]
