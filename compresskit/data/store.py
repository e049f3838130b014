"""The Arrow tables behind an `ExampleSet`: written batch by batch to a temporary folder, read memory-mapped.

Three tables: questions (each names its paragraph), paragraphs (the context, once; each names its article),
and articles (the title).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compresskit.checkpoint.temporary import new_folder
from compresskit.data.examples import Answer, Example
from compresskit.errors import RunFailed

_ARTICLES = pa.schema([("title", pa.string())])
_PARAGRAPHS = pa.schema([("context", pa.string()), ("article", pa.int32())])
_QUESTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("paragraph", pa.int32()),
        ("texts", pa.list_(pa.string())),
        ("starts", pa.list_(pa.int32())),
        ("repaired", pa.int32()),
        ("kept", pa.list_(pa.string())),
    ]
)
_ARTICLES_FILE = "articles.arrow"
_PARAGRAPHS_FILE = "paragraphs.arrow"
_QUESTIONS_FILE = "questions.arrow"
_BATCH_ROWS = 4096
_BATCH_CHARS = 4_000_000


class Folder:
    """A temporary folder that is removed with this object, or at the end of the process.

    One that is there already, at `path`, belongs to another process, and is left to it.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is not None:
            self.path = path
            return
        try:
            self.path = new_folder()
        except OSError as error:
            raise _no_room(Path(tempfile.gettempdir()), error) from error
        self._finalizer = weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, owner: int) -> None:
    # A forked worker (a data loader's) holds copies of these objects and must not take its parent's files.
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


def _no_room(path: Path, error: OSError) -> RunFailed:
    reason = error.strerror or str(error)
    return RunFailed(f"cannot write temporary data in {path}: {reason}; free some space or point TMPDIR elsewhere")


class _TableWriter:
    """Appends rows to an Arrow IPC file, holding at most one batch of them in memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._path = path
        self._schema = schema
        self._columns: list[list[object]] = [[] for _ in schema]
        self._chars = 0
        try:
            self._file = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_file(self._file, schema)
        except OSError as error:
            raise _no_room(path.parent, error) from error

    def add(self, row: Sequence[object], chars: int) -> int:
        """Append `row` (one value per column, `chars` characters in all); its index."""
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        self.rows += 1
        self._chars += chars
        if len(self._columns[0]) >= _BATCH_ROWS or self._chars >= _BATCH_CHARS:
            self._flush()
        return self.rows - 1

    def _flush(self) -> None:
        if not self._columns[0]:
            return
        arrays = [_array(column, field.type) for column, field in zip(self._columns, self._schema, strict=True)]
        try:
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        except OSError as error:
            raise _no_room(self._path.parent, error) from error
        for column in self._columns:
            column.clear()
        self._chars = 0

    def close(self) -> pa.Table:
        """Write what is left and open the file memory-mapped."""
        self._flush()
        try:
            self._writer.close()
            self._file.close()
        except OSError as error:
            raise _no_room(self._path.parent, error) from error
        return _mapped(self._path)


# `pa.array`, `to_numpy` and `pyarrow.compute` would do the same, but the first two import pandas, which takes
# half as long as torch, and the third makes hundreds of functions.


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Texts (or None), whole numbers, or lists of them, as Arrow has them."""
    if kind == pa.string():
        builder = pa.lib.StringBuilder()
        builder.append_values(values)
        return builder.finish()
    if kind == pa.int32():
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(array("i", values))])
    ends = list(accumulate(map(len, values), initial=0))
    inner = _array([each for value in values for each in value], kind.value_type)
    return pa.ListArray.from_arrays(_array(ends, pa.int32()), inner)


def numbers(column: pa.ChunkedArray) -> NDArray[np.int32]:
    """A column of whole numbers; as it lies in its file where that is in one piece."""
    chunks = [np.asarray(np.from_dlpack(chunk), np.int32) for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.zeros(0, np.int32), *chunks])


def _lengths(column: pa.ChunkedArray) -> NDArray[np.int32]:
    """The lengths of a column's lists."""
    lengths = [np.diff(np.from_dlpack(chunk.offsets)) for chunk in column.chunks]
    return np.concatenate([np.zeros(0, np.int32), *lengths])


def _mapped(path: Path) -> pa.Table:
    """The table in an Arrow IPC file, memory-mapped: what is not looked at is not read."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


class QuestionWriter:
    """Writes the table of questions, and finds ids that stand twice."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._table = _TableWriter(folder.path / _QUESTIONS_FILE, _QUESTIONS)
        self._hashes = array("q")

    def add(
        self,
        id: str,
        question: str,
        paragraph: int,
        answers: Sequence[Answer],
        repaired: int,
        kept: Sequence[str | None] = (),
    ) -> None:
        """Append a question about paragraph `paragraph`; `repaired` of its answers were mended.

        `kept` are the values of its further keys that were asked for, of each question as many.
        """
        texts = [answer.text for answer in answers]
        starts = [answer.start for answer in answers]
        self._hashes.append(hash(id))
        self._table.add((id, question, paragraph, texts, starts, repaired, kept), len(id) + len(question) + 64)

    @property
    def rows(self) -> int:
        """How many questions were added."""
        return self._table.rows

    def extend(self, store: Store) -> Store:
        """`store` with the questions of this writer after its own; nothing of it is copied."""
        questions = pa.concat_tables([store.question_table, self._table.close()])
        return Store(questions, store.paragraph_table, store.article_table, (*store.folders, self._folder))

    def close(self) -> tuple[pa.Table, tuple[int, int] | None]:
        """The table, and the rows of the first two questions with one id, or None if there are none.

        Only a 64-bit hash per id is held while the questions come in; equal hashes are then compared as ids.
        """
        table = self._table.close()
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        ranked = hashes[order]
        again = np.zeros(len(ranked), dtype=bool)
        again[1:] = ranked[1:] == ranked[:-1]
        suspects = np.sort(order[again | np.append(again[1:], False)]) if again.any() else order[:0]
        seen: dict[str, int] = {}
        for row in suspects.tolist():
            id = table.column("id")[row].as_py()
            if id in seen:
                return table, (seen[id], row)
            seen[id] = row
        return table, None


class StoreWriter:
    """Writes the three tables of a data set, in the order in which a file tells them; `questions` takes these."""

    def __init__(self) -> None:
        folder = Folder()
        self._folder = folder
        self.questions = QuestionWriter(folder)
        self._paragraphs = _TableWriter(folder.path / _PARAGRAPHS_FILE, _PARAGRAPHS)
        self._articles = _TableWriter(folder.path / _ARTICLES_FILE, _ARTICLES)

    def article(self, title: str) -> None:
        """End the article to which the paragraphs since the last call belong, and name it."""
        self._articles.add((title,), len(title))

    def paragraph(self, context: str) -> int:
        """Append a paragraph to the article that is under way; its running index."""
        return self._paragraphs.add((context, self._articles.rows), len(context))

    def close(self) -> tuple[Store, tuple[int, int] | None]:
        """The finished store, and the rows of the first two questions with one id, if there are any."""
        questions, duplicate = self.questions.close()
        store = Store(questions, self._paragraphs.close(), self._articles.close(), (self._folder,))
        return store, duplicate


@dataclass(frozen=True, slots=True)
class Counts:
    """What a choice of rows holds; see `DatasetInfo`."""

    unanswerable: int
    articles: int
    paragraphs: int
    repaired: int


class Store:
    """Random access to the tables. Memory: 12 bytes a question, 4 a paragraph, whatever the texts weigh.

    The first of `folders` holds all three tables; each further one holds questions that come after those.
    """

    def __init__(
        self, questions: pa.Table, paragraphs: pa.Table, articles: pa.Table, folders: tuple[Folder, ...]
    ) -> None:
        self.question_table = questions
        self.paragraph_table = paragraphs
        self.article_table = articles
        self.folders = folders
        self.questions: int = questions.num_rows
        self._ids = questions.column("id")
        self._texts_of_questions = questions.column("question")
        self._answer_texts = questions.column("texts")
        self._answer_starts = questions.column("starts")
        self._contexts = paragraphs.column("context")
        self._titles = articles.column("title")
        self._paragraph: NDArray[np.int32] = numbers(questions.column("paragraph"))
        self._repaired: NDArray[np.int32] = numbers(questions.column("repaired"))
        self._answers: NDArray[np.int32] = _lengths(self._answer_starts)
        self._article: NDArray[np.int32] = numbers(paragraphs.column("article"))

    @classmethod
    def opened(cls, folders: Sequence[Path]) -> Store:
        """The store of another process, in these folders, which that process has to keep meanwhile."""
        questions = pa.concat_tables([_mapped(folder / _QUESTIONS_FILE) for folder in folders])
        paragraphs, articles = (_mapped(folders[0] / name) for name in (_PARAGRAPHS_FILE, _ARTICLES_FILE))
        return cls(questions, paragraphs, articles, tuple(map(Folder, folders)))

    def save_rows(self, rows: NDArray[np.int64]) -> Path:
        """Write row numbers to a new file beside the tables, which goes with them; RunFailed where there is no room."""
        folder = self.folders[0].path
        try:
            number, name = tempfile.mkstemp(".npy", "rows-", folder)
            with os.fdopen(number, "wb") as file:
                np.save(file, rows)
        except OSError as error:
            raise _no_room(folder, error) from error
        return Path(name)

    def example(self, row: int) -> Example:
        """The question in row `row` of the table (0 ≤ row < questions)."""
        paragraph = int(self._paragraph[row])
        answers: tuple[Answer, ...] = ()
        if self._answers[row]:
            texts = self._answer_texts[row].as_py()
            answers = tuple(map(Answer, texts, self._answer_starts[row].as_py()))
        return Example(
            id=self._ids[row].as_py(),
            title=self._titles[int(self._article[paragraph])].as_py(),
            question=self._texts_of_questions[row].as_py(),
            context=self._contexts[paragraph].as_py(),
            answers=answers,
            is_impossible=not answers,
            paragraph=paragraph,
        )

    def context(self, paragraph: int) -> str:
        """The text of a paragraph."""
        text: str = self._contexts[paragraph].as_py()
        return text

    def kept(self, rows: NDArray[np.int64]) -> list[list[str | None]]:
        """The values of the further keys that were asked for, of the questions in these rows."""
        chosen = self.question_table.column("kept").take(_array(rows.tolist(), pa.int32()))
        values: list[list[str | None]] = chosen.to_pylist()
        return values

    def id(self, row: int) -> str:
        """The id of the question in a row."""
        id: str = self._ids[row].as_py()
        return id

    def where(self, row: int) -> str:
        """The place of a row in words."""
        return "article {}, paragraph {}".format(*self.place(row))

    def place(self, row: int) -> tuple[int, int]:
        """The index of the article of a row, and that of its paragraph within the article."""
        paragraph = int(self._paragraph[row])
        article = int(self._article[paragraph])
        return article, paragraph - int(np.searchsorted(self._article, article))

    def paragraph_numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """The paragraph that each of these rows is about, shape (rows,)."""
        return self._paragraph[rows]

    def paragraphs_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """The paragraphs that these rows are about, each once, rising."""
        return np.unique(self.paragraph_numbers(rows))

    def count(self, rows: NDArray[np.int64]) -> Counts:
        """What these rows hold."""
        paragraphs = self.paragraphs_of(rows)
        return Counts(
            unanswerable=int(np.count_nonzero(self._answers[rows] == 0)),
            articles=len(np.unique(self._article[paragraphs])),
            paragraphs=len(paragraphs),
            repaired=int(self._repaired[rows].sum()),
        )
