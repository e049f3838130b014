"""One way in for every reference to a data set: a file, a folder of files, the Hub, or the built-in demo."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit import console, packages
from compresskit.checkpoint.nearest import nearest_path
from compresskit.data import Split
from compresskit.data.examples import ExampleSet
from compresskit.data.mending import BadData, Handling, told
from compresskit.errors import InputError, MissingError

if TYPE_CHECKING:
    from compresskit.data.building import Watcher

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILE_SUFFIXES = (".json", ".gz", ".jsonl", ".csv", ".tsv", ".parquet", ".zip", ".bz2", ".xz", ".zst")
_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "eval": ("validation", "valid", "val", "dev", "eval"),
}
"""How files of a split are called, as the package `datasets` has it."""

_told: set[tuple[str, str]] = set()  # what was said of a data set, which is read more than once


def _path(ref: str) -> Path:
    """The path that a reference would be, that of a home in the place of `~` where there is one."""
    return Path(os.path.expanduser(ref))


def has_splits(ref: str) -> bool:
    """Whether a reference stands for more than one split; a file has none, and what is not there may be on the Hub."""
    return not _path(ref).is_file()


def training_set(ref: str) -> str | None:
    """By what reference `load` finds the training questions that belong to the data set `ref`.

    That is the same one for the built-in set and for data sets with splits; None for a file, which has no others.
    """
    return ref if has_splits(ref) else None


def local_files(ref: str) -> list[Path]:
    """What `load` reads of this machine's own files for the reference `ref`: a file, a folder, or nothing."""
    path = _path(ref)
    return [path] if ref != "demo" and os.path.exists(path) else []


def load(
    ref: str,
    split: Split,
    bad_data: BadData = "mend",
    keep: Sequence[str] = (),
    *,
    to_learn: bool | None = None,
) -> ExampleSet:
    """The checked questions of `ref`.

    `ref` is a file in any of the forms of `compresskit.data.forms` (`split` then says nothing of its content), a
    folder with files called after their splits (`train.json`, `validation-00000-of-00002.parquet`), "demo", a data set
    on the Hugging Face Hub ("rajpurkar/squad_v2"), or a folder that the package `datasets` can load. The split "eval"
    is what they call "validation".

    Questions of the split "train" are to be learned from: `bad_data` says what becomes of answers that do not stand at
    their offsets. Those of the split "eval" are scored, which needs no offsets; `to_learn` says otherwise. What was
    mended is told once. `keep` names further keys of the questions whose values go along (`ExampleSet.kept`); the
    built-in set has none.

    Raises InputError for content that is not valid, and for a file or data set that does not exist;
    MissingError if the Hub cannot be reached.
    """
    to_learn = split == "train" if to_learn is None else to_learn
    examples = load_as(ref, split, bad_data if to_learn else "score", keep)
    for line in told(examples.info.counts):
        if (ref, line) not in _told:
            _told.add((ref, line))
            console.warn(f"{ref}: {line}")
    return examples


def load_as(
    ref: str,
    split: Split,
    handling: Handling,
    keep: Sequence[str] = (),
    *,
    watcher: Watcher | None = None,
) -> ExampleSet:
    """The questions of a split, handled as those of any other; silently. Raises what `load` raises.

    A `watcher` is told of all faults of the content instead.
    """
    if ref == "demo":
        from compresskit.data import demo

        return demo.examples(split)
    from compresskit.data import reading

    path = _path(ref)
    if path.exists() and not path.is_dir():
        return reading.read_files([path], ref, handling, keep, watcher=watcher)
    if path.is_dir() and (files := files_of(path, split)):
        return reading.read_files(files, ref, handling, keep, watcher=watcher)
    if not path.is_dir():
        _check_is_no_path(ref, path)
    from compresskit.data import hub

    name = "validation" if split == "eval" else "train"
    try:
        return hub.read(str(path) if path.is_dir() else ref, name, handling, keep, watcher=watcher)
    except (InputError, MissingError) as error:
        if path.is_dir() or (near := nearest_path(path)) is None:
            raise
        raise type(error)(f"{error}; or did you mean {near}?") from error


def require_reader(ref: str) -> None:
    """MissingError where `ref` is read by the package `datasets`, and that is not installed; nothing is read.

    Raises InputError where it can be neither a file nor a data set.
    """
    path = _path(ref)
    if ref == "demo" or (path.exists() and not path.is_dir()):
        return
    if path.is_dir() and any(files_of(path, split) for split in _NAMES):
        return
    if not path.is_dir():
        _check_is_no_path(ref, path)
    packages.require("datasets", what=f"the data set {ref}")


def _check_is_no_path(ref: str, path: Path) -> None:
    """InputError where a reference to what is not there can only be a path, or the folder that it begins with is here.

    The Hub is not asked for `data/dev` then, whatever lies there.
    """
    beside = "/" in ref and path.parent.is_dir()
    if _HUB_ID.fullmatch(ref) and not ref.endswith(_FILE_SUFFIXES) and not beside:
        return
    near = nearest_path(path)
    mend = "DATA is a file of questions, a folder, a Hub data set id, or 'demo'"
    raise InputError(f"{ref}: no such file; {mend if near is None else f'did you mean {near}?'}")


def files_of(folder: Path, split: Split) -> list[Path]:
    """The files of a split in a folder, or in `data` within it, by their names; none where none is called so.

    Raises InputError where there are several that are not parts of one.
    """
    words = re.compile(rf"(?:{'|'.join(_NAMES[split])})(?:-(\d+)-of-\d+)?(?:[._-].*)?", re.IGNORECASE)
    for place in (folder, folder / "data"):
        if not place.is_dir():
            continue
        found = {path: named for path in sorted(place.iterdir()) if (named := words.fullmatch(path.name))}
        files = [path for path in found if path.is_file()]
        if len(files) > 1 and not all(found[path][1] for path in files):
            names = ", ".join(path.name for path in files[:5])
            raise InputError(f"{folder}: {names} may all be the split {split!r}; give the file that you mean")
        if files:
            return files
    return []
