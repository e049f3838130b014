"""The record of a blind set: a line of JSON for each checkpoint that was scored on it, beside the data.

Nothing is ever taken from it. One process has it at a time, from before a checkpoint is scored until its line is on the
disk; the figures are shown after that. A line that was cut by a crash was shown to nobody, and goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from compresskit import console
from compresskit.checkpoint.outputs import check_file
from compresskit.checkpoint.reading import read_bytes
from compresskit.data.load import local_files
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.text import from_json, one_line, to_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from compresskit.evaluate.settings import EvalSettings

SCHEMA = "compresskit.blind/1"
ENDING = ".blind.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """A checkpoint that was scored: `data` and `checkpoint` are SHA-256 of all their files, `path` names the data.

    `base` is what it was made of, by name, and `steps` are the methods of its history; `figures` are per cents by
    their keys in a row, `overlap` what of the data stands in its training data. `runs` are the checkpoints that were
    scored with it as runs of one row, itself among them: together they are one look. Raises ValueError where EM or F1
    is not among the figures, or the look is below 1.
    """

    # How pydantic reads it back: no text for a number, no key that is not known.
    __pydantic_config__: ClassVar[Mapping[str, object]] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}

    scored: str
    data: str
    path: str
    questions: int
    checkpoint: str
    name: str
    place: str
    base: str | None
    steps: tuple[str, ...]
    look: int
    figures: Mapping[str, float]
    overlap: Mapping[str, int] | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not {"em", "f1"} <= self.figures.keys() or self.look < 1:
            raise ValueError("has no EM, no F1, or no look")

    def akin(self, other: Entry) -> bool:
        """Whether two checkpoints are of one lineage: of one name, or made of one base by the same methods."""
        same_way = bool(self.steps) and (self.base, self.steps) == (other.base, other.steps)
        return self.name == other.name or same_way

    def to_line(self) -> str:
        """The entry as its line, which ends with the hash of what stands before."""
        value = {"schema": SCHEMA, **asdict(self)}
        return to_json({**value, "sha256": _hash(value)}) + "\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Read a line back; ValueError where it is not as it was written."""
        value = from_json(line)
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise ValueError(f"it has no schema {SCHEMA!r}")
        if value.pop("sha256", None) != _hash(value):
            raise ValueError("its hash is another")
        del value["schema"]
        return _reader().validate_json(to_json(value))


@functools.cache
def _reader() -> TypeAdapter[Entry]:
    from pydantic import TypeAdapter

    return TypeAdapter(Entry)


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def lineage(manifest: Mapping[str, Any] | None) -> tuple[str | None, tuple[str, ...]]:
    """Of a manifest as a row has it, what the checkpoint was made of, by name, and its methods."""
    if manifest is None:
        return None, ()
    base = manifest.get("base")
    name = None if base is None else PurePath(base["ref"]).name
    return name, tuple(step["method"] for step in manifest.get("steps", ()))


def record_of(ref: str, named: Path | None = None) -> Path | None:
    """Where the record of the data `ref` is: `named`, or beside its file or folder; None where it is no file here."""
    if named is not None:
        return named
    files = local_files(ref)
    return files[0].with_name(files[0].name + ENDING) if files else None


def check_record(ref: str, named: Path | None, read: Sequence[Path]) -> Path:
    """Where the record of the data `ref` is; UsageError where it has no place, or cannot be written there.

    `read` is what the evaluation reads.
    """
    record = record_of(ref, named)
    if record is None:
        raise UsageError(f"--blind {ref} is no file here, and its record needs a place; name one with --blind-record")
    if not record.is_file() or not os.access(record, os.W_OK):
        check_file(record, read, flag="--blind-record")
    if record.is_file() and not os.access(record, os.W_OK):
        raise UsageError(f"the record {record} may not be written to; name a copy of it with --blind-record")
    return record


def check_not_blind(ref: str | None, flag: str) -> None:
    """UsageError where data have a record beside them: to look at them otherwise would not be counted."""
    record = None if ref is None else record_of(ref)
    if record is not None and record.is_file():
        raise UsageError(
            f"{flag} {ref} is a blind set, by its record {record}, and a look at it is counted: give it to eval with "
            "--blind, and other data here"
        )


def check_none_blind(data: str | None, settings: EvalSettings) -> None:
    """UsageError where data that are asked, tuned on, or shown as examples are a blind set (`check_not_blind`)."""
    check_not_blind(data, "--data")
    check_not_blind(settings.tune_data, "--tune-data")
    check_not_blind(settings.shots_data, "--shots-data")


class Book:
    """A record that this process has for itself: its entries, in their order."""

    def __init__(self, path: Path, number: int) -> None:
        """`number` is that of the open file. Raises InputError where a line is not as it was written."""
        self._path, self._number = path, number
        self.entries = self._read()

    def of(self, checkpoint: str, data: str) -> tuple[Entry, int] | None:
        """The entry of a checkpoint on these data, and the how manieth look it was; None where there is none."""
        for at, entry in enumerate(self.entries):
            if (entry.checkpoint, entry.data) == (checkpoint, data):
                return entry, max(entry.look, self._looks(entry, self.entries[:at]) + 1)
        return None

    def next_look(self, entry: Entry) -> int:
        """The how manieth look the next one is, of the lineage of `entry`."""
        return self._looks(entry, self.entries) + 1

    def checkpoints(self, data: str) -> int:
        """How many checkpoints were scored on these data."""
        return len({entry.checkpoint for entry in self.entries if entry.data == data})

    def add(self, entry: Entry) -> None:
        """Write an entry through to the disk; RunFailed where that cannot be."""
        try:
            if not _is_there(self._path, self._number):
                raise RunFailed(f"{self._path} was replaced while a checkpoint was scored; run it again")
            line = entry.to_line().encode()
            if os.write(self._number, line) != len(line):
                raise RunFailed(f"{self._path} cannot be written; make room, and run it again")
            os.fsync(self._number)
        except OSError as error:
            raise RunFailed(
                f"{self._path} cannot be written ({error.strerror}); make room, and run it again"
            ) from error
        self.entries.append(entry)

    def _looks(self, entry: Entry, before: Sequence[Entry]) -> int:
        known = [each for each in before if each.data == entry.data and each.checkpoint not in entry.runs]
        akin = [each for each in known if each.akin(entry)]
        return max([len({each.runs or (each.checkpoint,) for each in akin}), *(each.look for each in akin)])

    def _read(self) -> list[Entry]:
        content = read_bytes(self._path, "restore it")
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            console.warn(
                f"{self._path}: its last line was cut while it was written, and shown to nobody; it is dropped"
            )
            os.ftruncate(self._number, len(whole))
        entries = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entries.append(Entry.from_line(line))
            except ValueError as error:
                told = f"line {number} is not as it was written ({one_line(str(error))})"
                raise InputError(f"{self._path}: {told}; restore the record, for it counts looks") from error
        return entries


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Book]:
    """The record for this process alone, until the block ends; it is made where there is none.

    Where another process has it, this one waits. Raises UsageError where it cannot be opened, InputError where it is
    damaged.
    """
    try:
        number = _locked(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"the record {path} cannot be opened ({reason}); name one with --blind-record") from error
    try:
        yield Book(path, number)
    finally:
        fcntl.flock(number, fcntl.LOCK_UN)
        os.close(number)


def _locked(path: Path) -> int:
    """The number of the open file, locked; of the file that has the name once the lock is there."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                console.info(f"{path}: another process scores on this set; waiting for it")
                fcntl.flock(number, fcntl.LOCK_EX)
            if _is_there(path, number):
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _is_there(path: Path, number: int) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False
