"""Data of this machine's files, in whichever form they are, read into an `ExampleSet`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from compresskit.checkpoint.store import sha256_file
from compresskit.data import checks, json_pieces, parquet, tables
from compresskit.data.building import Builder, Watcher, fault_of
from compresskit.data.checks import Fault
from compresskit.data.examples import ExampleSet
from compresskit.data.forms import Form, form_of
from compresskit.data.json_fault import PARSER_ERRORS, json_fault
from compresskit.data.json_pieces import Events
from compresskit.data.mending import Handling
from compresskit.data.offsets import Unit
from compresskit.data.pieces import Article, Piece
from compresskit.data.squad import SquadReader
from compresskit.data.store import Store, StoreWriter
from compresskit.data.text_stream import TextStream
from compresskit.errors import InputError

_PREFIXES = {"rows": "data.item", "array": "item", "lines": ""}
"""Where the rows of JSON are, by the parser's prefix."""

Pieces = Callable[[], Iterator[Piece]]
"""Reads a source from its beginning."""


def read(
    path: Path,
    name: str | None = None,
    handling: Handling = "mend",
    keep: Sequence[str] = (),
    *,
    unique_ids: bool = True,
) -> ExampleSet:
    """Read and check the data in a file, holding one paragraph (or row) at a time in memory.

    `name` is what the set's info and messages call the file (default: its path); `handling` says what is done with
    answers that do not stand at their offsets; `keep` names further keys that go along; without `unique_ids`, an id may
    stand twice. Raises InputError, with file, place and question id, for what has no meaning or more than one.
    """
    return read_files([path], str(path) if name is None else name, handling, keep, unique_ids=unique_ids)


def read_files(
    paths: Sequence[Path],
    name: str,
    handling: Handling,
    keep: Sequence[str] = (),
    *,
    watcher: Watcher | None = None,
    unique_ids: bool = True,
) -> ExampleSet:
    """Read the data in several files, one behind the other, as one set. Raises InputError; see `read`.

    A `watcher` is told of all faults in what is in the files instead.
    """
    names = [name] if len(paths) == 1 else [str(path) for path in paths]
    hashes: list[str] = []

    def pieces() -> Iterator[Piece]:
        hashes.clear()
        for path, own in zip(paths, names, strict=True):
            form = form_of(path, own)
            with _faults(path, own, form):
                found = _pieces(path, own, form, hashes, keep)
                yield from found if len(paths) == 1 else _of_file(path.name, found)

    store, counts = built(pieces, name, handling, keep, watcher=watcher, unique_ids=unique_ids)
    return ExampleSet(store, name, joined_hash(hashes), counts=counts)


def joined_hash(hashes: Sequence[str]) -> str:
    """The SHA-256 of a set that is in several files, from those of the files; of a single file its own."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def pieces_of(path: Path) -> Iterator[Piece]:
    """The pieces of a file, unchecked, and nothing of it is held. Raises Fault, InputError; see `read`."""
    form = form_of(path, str(path))
    with _faults(path, str(path), form):
        yield from _pieces(path, str(path), form, [], ())


def built(
    pieces: Pieces,
    name: str,
    handling: Handling,
    keep: Sequence[str] = (),
    *,
    watcher: Watcher | None = None,
    unique_ids: bool = True,
) -> tuple[Store, dict[str, int]]:
    """The questions in the pieces of the source called `name`, and what was counted. Raises InputError.

    Where not all offsets count characters, but all agree on another unit, the source is read once more with that. A
    `watcher` is told of all faults instead, but for ids that stand twice; without `unique_ids`, they may.
    """
    writer, builder = _once(pieces, name, "score" if handling == "stop" else handling, "characters", keep, watcher)
    unit = builder.vote.unit
    if unit != "characters" or handling == "stop":
        writer, builder = _once(pieces, name, handling, unit, keep, watcher)
    store, duplicate = writer.close()
    if watcher is not None:
        return store, dict(builder.counts)
    if not store.questions:
        skipped = builder.counts["skipped"]
        why = f": all {skipped:,} were left out, as --bad-data says" if skipped else ""
        raise InputError(f"{name}: there are no questions in it{why}; give data with questions")
    if duplicate is not None and unique_ids:
        first, again = (f"question {row}" if builder.flat else store.where(row) for row in duplicate)
        id = checks.quoted(store.id(duplicate[1]))
        raise InputError(
            f"{name}: {again}, question {id}: the id stands already in {first}; give every question its own"
        )
    return store, dict(builder.counts)


def _once(
    pieces: Pieces, name: str, handling: Handling, unit: Unit, keep: Sequence[str], watcher: Watcher | None
) -> tuple[StoreWriter, Builder]:
    writer = StoreWriter()
    builder = Builder(writer, handling, unit, keep, watcher)
    if watcher is not None:
        watcher.begin(unit)
    try:
        try:
            builder.read(pieces())
        except Fault as fault:
            raise fault_of(name, fault) from fault
    except InputError as error:
        if watcher is None:
            raise
        watcher.stopped(str(error))
        writer.article("")  # that which was under way
    return writer, builder


def _of_file(file: str, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces of one file of several, with its name in their places."""
    try:
        for piece in pieces:
            if isinstance(piece, Article):
                yield piece
            else:
                yield replace(piece, place=piece.place.within(file))
    except Fault as fault:
        fault.place = fault.place and fault.place.within(file)
        raise


def _pieces(path: Path, name: str, form: Form, hashes: list[str], keep: Sequence[str]) -> Iterator[Piece]:
    """The pieces of a file; its hash is added behind the last one."""
    if form == "parquet":
        yield from parquet.pieces(path, name, keep)
        hashes.append(sha256_file(path))
        return
    with TextStream(path, name) as stream:
        if form == "squad":
            yield from SquadReader(Events(stream)).pieces()
        elif form == "table":
            yield from tables.pieces(stream)
        elif form == "lines":
            with TextStream(path, name) as again:
                lines = json_pieces.line_numbers(again)
                yield from json_pieces.pieces(Events(stream, several=True), _PREFIXES[form], lines)
        else:
            yield from json_pieces.pieces(Events(stream), _PREFIXES[form])
        hashes.append(stream.sha256())


@contextlib.contextmanager
def _faults(path: Path, name: str, form: Form) -> Iterator[None]:
    """Turn what a parser raises into an InputError that says where."""
    try:
        yield
    except Fault:
        raise
    except PARSER_ERRORS as error:
        raise json_fault(path, name, error, several=form == "lines") from error
