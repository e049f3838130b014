"""Outcomes that are kept: an unchanged checkpoint on unchanged data is not measured again.

An entry is a folder named by its key, with what the job left there: the outcome and the answers. The key covers the
bytes of every file that the checkpoint needs, those of the data, the settings, the versions of the packages and of this
one's own code, and the machine, since memory and time are the machine's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import compresskit
from compresskit import console
from compresskit.checkpoint.manifest import package_versions
from compresskit.evaluate.job import PREDICTIONS_FILE, Outcome
from compresskit.evaluate.settings import EvalSettings

FOLDER_VARIABLE = "COMPRESSKIT_CACHE"
STAGED = ".new-"
"""What the name of a folder that is not yet an entry begins with."""
_DAY = 24 * 3600.0
_GPUS = Path("/proc/driver/nvidia/gpus")
# What decides where and how fast a checkpoint runs, and is no part of the settings.
_ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "WORLD_SIZE")


def folder() -> Path:
    """Return where outcomes are kept: $COMPRESSKIT_CACHE, else compresskit in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(home, "compresskit")) / "eval"


def key(checkpoint: str, data: Sequence[str], settings: EvalSettings) -> str:
    """Return the name of an entry: a SHA-256 in hex over all that a measurement depends on.

    ``checkpoint`` is the hash of the checkpoint's files, ``data`` those of the data sets.
    """
    parts = {
        "checkpoint": checkpoint,
        "data": list(data),
        "settings": asdict(settings),
        "versions": package_versions(),
        "code": _own_code(),
        "machine": _machine(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find(name: str) -> tuple[Outcome, Path] | None:
    """Return a kept outcome and its folder, or None where there is none that is whole."""
    entry = folder() / name
    try:
        outcome = Outcome.read(entry)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    whole = outcome.row is not None and (not outcome.question_em or (entry / PREDICTIONS_FILE).is_file())
    return (outcome, entry) if whole else None


@contextlib.contextmanager
def staging() -> Iterator[Path]:
    """Yield an empty folder for a job, beside the entries, which goes at the end unless `keep` took it."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        _sweep()
        path = Path(tempfile.mkdtemp(prefix=STAGED, dir=folder()))
    except OSError as error:
        console.warn(
            f"{folder()}: nothing can be kept there ({error.strerror}); set {FOLDER_VARIABLE} to another folder"
        )
        path = Path(tempfile.mkdtemp(prefix=STAGED))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sweep() -> None:
    """Remove what jobs left that were killed a day ago or earlier."""
    for left in folder().glob(f"{STAGED}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)


def keep(staged: Path, name: str) -> Path:
    """Make what a job left in its folder an entry, in place of an older one, and return its folder.

    Where the cache could not be written to, that is where the job left it.
    """
    entry = folder() / name
    if staged.parent != folder():
        return staged
    shutil.rmtree(entry, ignore_errors=True)
    try:
        return staged.rename(entry)
    except OSError:  # another evaluation was quicker, with the same result
        return entry if entry.is_dir() else staged


@functools.cache
def _own_code() -> str:
    digest = hashlib.sha256()
    root = Path(compresskit.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _machine() -> list[str]:
    """Return what tells machines apart, found without torch: processor, system, GPUs and their settings."""
    from compresskit.evaluate.measure import cpu_name

    # One after the other, since a machine whose driver has no such folder has no NVIDIA GPU.
    gpus = sorted(path.read_text(errors="replace") for path in _GPUS.glob("*/information")) if _GPUS.is_dir() else []
    variables = [f"{name}={os.environ.get(name, '')}" for name in _ENVIRONMENT]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [platform.platform(), cpu_name(), str(cores), *gpus, *variables]
