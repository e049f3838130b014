"""The questions of a data set: plain records, and a read-only sequence of them whose rows live on disk.

This module imports nothing heavy, so that everything above it can use the records for its types.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from compresskit.data.store import Store


@dataclass(frozen=True, slots=True)
class Answer:
    """One accepted answer: `text` stands in the context at character (code point) offset `start`.

    In a set that was read for scoring it is as its author wrote it, which may differ from the context in white space,
    case or Unicode form; `start` is -1 where it does not stand there at all.
    """

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Example:
    """One question about one paragraph.

    `is_impossible` is True exactly when `answers` is empty. `paragraph` is the running index of the paragraph
    in the data set, counted from 0 over all articles.
    """

    id: str
    title: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    is_impossible: bool
    paragraph: int


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Where a set of questions comes from, and how much of everything it holds.

    `sha256` is that of the source as stored, whichever part of it the set holds; `articles` and `paragraphs`
    count those that at least one of the questions is about; `repaired` counts the answers of these questions
    whose offset was mended. `counts` tells what was mended or left out while the whole source was read, of each kind
    (`compresskit.data.mending.COUNTS`).
    """

    path: str
    sha256: str
    questions: int
    unanswerable: int
    articles: int
    paragraphs: int
    repaired: int
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExampleFiles:
    """Where an `ExampleSet` lies on the disk, so that another process can open it without reading the source again.

    `folders` hold the Arrow files (see `Store`), `rows` is the file of the row numbers that the set consists of; `path`
    and `sha256` are those of `DatasetInfo`.
    """

    folders: tuple[str, ...]
    rows: str
    path: str
    sha256: str

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ExampleFiles:
        """Take back what `dataclasses.asdict` made, also by way of JSON."""
        return cls(**{**raw, "folders": tuple(raw["folders"])})


class ExampleSet:
    """A read-only sequence of `Example`, with random access and bounded memory.

    The rows live in memory-mapped Arrow files in a temporary folder, which goes with the last set that uses
    it. A set made by `sample` or `select` shares these files and holds only row numbers (8 bytes each).
    Sets are made by `compresskit.data.load.load`; `opened` opens one that another process has made.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        sha256: str,
        rows: NDArray[np.int64] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """The rows `rows` (all, if None) of `store`, which was read from `path` with the hash `sha256`."""
        self._store = store
        self._rows = np.arange(store.questions, dtype=np.int64) if rows is None else rows
        held = store.count(self._rows)
        self.info = DatasetInfo(
            path=path,
            sha256=sha256,
            questions=len(self._rows),
            unanswerable=held.unanswerable,
            articles=held.articles,
            paragraphs=held.paragraphs,
            repaired=held.repaired,
            counts=counts or {},
        )

    @classmethod
    def opened(cls, files: ExampleFiles) -> ExampleSet:
        """The set of another process, which has to keep it as long as this one is used."""
        from compresskit.data.store import Store

        store = Store.opened([Path(folder) for folder in files.folders])
        return cls(store, files.path, files.sha256, np.load(files.rows))

    def files(self) -> ExampleFiles:
        """Write down which rows this set holds, and return what another process needs for `opened`."""
        folders = tuple(str(folder.path) for folder in self._store.folders)
        return ExampleFiles(folders, str(self._store.save_rows(self._rows)), self.info.path, self.info.sha256)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        return self._store.example(int(self._rows[operator.index(index)]))

    def __iter__(self) -> Iterator[Example]:
        for row in self._rows:
            yield self._store.example(int(row))

    def __repr__(self) -> str:
        return f"ExampleSet({self.info!r})"

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> ExampleSet:
        """The questions at `indices` (positions in this set), in that order; IndexError out of range."""
        rows = self._rows[np.asarray(indices, dtype=np.int64)]
        return ExampleSet(self._store, self.info.path, self.info.sha256, rows, self.info.counts)

    def sample(self, n: int, seed: int) -> ExampleSet:
        """`n` questions drawn without replacement, in the order they have here; all if there are no more.

        The draw depends on `n`, `seed` and the length alone. Raises ValueError if `n` is negative.
        """
        if n >= len(self):
            return self
        return self.select(sorted(random.Random(seed).sample(range(len(self)), n)))

    def sample_paragraphs(self, n: int, seed: int) -> ExampleSet:
        """Whole paragraphs of at most `n` questions in all (but one paragraph at least), in the order they have here.

        They are drawn without replacement until the next one would be too much; where there are no more than `n`
        questions, it is this set. With one seed, a smaller draw is part of a larger one. Raises ValueError if `n` is
        negative.
        """
        if n < 0:
            raise ValueError(f"cannot draw {n} questions: the number is negative")
        if n >= len(self):
            return self
        _, own, sizes = np.unique(self.paragraph_numbers(), return_inverse=True, return_counts=True)
        order = random.Random(seed).sample(range(len(sizes)), len(sizes))
        fitting = int(np.searchsorted(np.cumsum(sizes[order]), n, side="right"))
        return self.select(np.flatnonzero(np.isin(own, order[: max(fitting, 1)])))

    def paragraph_numbers(self) -> NDArray[np.int32]:
        """The running index of the paragraph of each question, shape (questions,)."""
        return self._store.paragraph_numbers(self._rows)

    def paragraphs(self) -> Iterator[tuple[int, str]]:
        """The (running index, context) of each paragraph that a question here is about, rising, once."""
        for paragraph in self._store.paragraphs_of(self._rows):
            yield int(paragraph), self._store.context(int(paragraph))

    def context(self, paragraph: int) -> str:
        """The text of the paragraph with this running index."""
        return self._store.context(paragraph)

    def kept(self) -> list[list[str | None]]:
        """The values of the keys that `load` was to keep, question by question; None where one has not got a key."""
        return self._store.kept(self._rows)

    def extended(self, store: Store) -> ExampleSet:
        """This set followed by the rows that `store`, an extension of its own store, holds beyond that."""
        added = np.arange(self._store.questions, store.questions, dtype=np.int64)
        rows = np.concatenate([self._rows, added])
        return ExampleSet(store, self.info.path, self.info.sha256, rows, self.info.counts)

    @property
    def store(self) -> Store:
        """The tables that hold the rows (shared with every set made from this one)."""
        return self._store
