"""One way in for every reference to a data set: a file, the Hub, or the built-in demo."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError

Split = Literal["train", "eval"]

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILE_SUFFIXES = (".json", ".gz", ".jsonl")


def _path(ref: str) -> Path:
    """The path that a reference would be, that of a home in the place of `~` where there is one."""
    return Path(os.path.expanduser(ref))


def training_set(ref: str) -> str | None:
    """By what reference `load` finds the training questions that belong to the data set `ref`.

    That is the same one for the built-in set and for data sets with splits; None for a file, which has no others.
    """
    return None if _path(ref).is_file() else ref


def local_files(ref: str) -> list[Path]:
    """What `load` reads of this machine's own files for the reference `ref`: a file, a folder, or nothing."""
    path = _path(ref)
    return [path] if ref != "demo" and os.path.exists(path) else []


def load(ref: str, split: Split) -> ExampleSet:
    """The checked questions of `ref`.

    `ref` is a SQuAD 1.1 or 2.0 JSON file (plain or gzip; `split` then says nothing), "demo", a data set on
    the Hugging Face Hub ("rajpurkar/squad_v2"), or a folder that the package `datasets` can load. The split
    "eval" of the last two is what they call "validation".

    Raises InputError for content that is not valid, and for a file or data set that does not exist;
    MissingError if the Hub cannot be reached.
    """
    if ref == "demo":
        from compresskit.data import demo

        return demo.examples(split)
    path = _path(ref)
    if path.exists() and not path.is_dir():
        from compresskit.data import squad

        return squad.read(path, ref)
    if not path.is_dir() and (not _HUB_ID.fullmatch(ref) or ref.endswith(_FILE_SUFFIXES)):
        raise InputError(f"{ref}: no such file; DATA is a SQuAD JSON file, a Hub data set id, or 'demo'")
    from compresskit.data import hub

    return hub.read(str(path) if path.is_dir() else ref, "validation" if split == "eval" else "train")
