"""Data in any form written anew: as SQuAD 2.0 JSON, or as Parquet with the columns of `datasets`."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from compresskit.checkpoint.store import written
from compresskit.data.examples import Example, ExampleSet
from compresskit.data.store import numbers
from compresskit.errors import UsageError

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "title", "context", "question")),
        ("answers", pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])),
    ]
)
_ROWS = 1000  # that are written at once


def check_ending(path: Path) -> None:
    """UsageError where the name of a file does not say what is to be written there."""
    _writer(path)


def convert(examples: ExampleSet, path: Path) -> None:
    """Write the whole set `examples`, which was not read for scoring, to `path` by its ending.

    The file appears whole or not at all. One passage, or a thousand rows, are held at a time. As JSON it has every
    article and passage, those without questions too; Parquet has questions alone. Raises UsageError for another ending,
    OSError where it cannot be written.
    """
    write = _writer(path)
    with written(path) as file:
        write(examples, file)


def _writer(path: Path) -> Callable[[ExampleSet, IO[bytes]], None]:
    for ending, write in _WRITERS.items():
        if path.name.endswith(ending):
            return write
    raise UsageError(f"OUT {path} does not say what to write; end it in {', '.join(_WRITERS)}")


def _write_json(examples: ExampleSet, file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="\n", write_through=True)
    for part in _squad(examples):
        text.write(part)
    text.detach()


def _write_gzip(examples: ExampleSet, file: IO[bytes]) -> None:
    # Without name and time, so that the same questions make the same file.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        for part in _squad(examples):
            packed.write(part.encode())


def _write_parquet(examples: ExampleSet, file: IO[bytes]) -> None:
    with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        rows = map(_row, examples)
        while batch := list(itertools.islice(rows, _ROWS)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=_SCHEMA))


_WRITERS: Mapping[str, Callable[[ExampleSet, IO[bytes]], None]] = {
    ".json": _write_json,
    ".json.gz": _write_gzip,
    ".parquet": _write_parquet,
}


def _row(example: Example) -> dict[str, Any]:
    texts = [answer.text for answer in example.answers]
    starts = [answer.start for answer in example.answers]
    told = {name: getattr(example, name) for name in ("id", "title", "context", "question")}
    return {**told, "answers": {"text": texts, "answer_start": starts}}


def _squad(examples: ExampleSet) -> Iterator[str]:
    """The parts of SQuAD 2.0 JSON."""
    store, questions = examples.store, iter(examples)
    following = next(questions, None)
    of_paragraph = numbers(store.paragraph_table.column("article"))
    yield '{"version": "v2.0", "data": ['
    for article, title in enumerate(store.article_table.column("title")):
        yield f'{"," if article else ""}\n{{"title": {_json(title.as_py())}, "paragraphs": ['
        first, behind = np.searchsorted(of_paragraph, [article, article + 1]).tolist()
        for paragraph in range(first, behind):
            yield "," if paragraph > first else ""
            yield f'\n{{"context": {_json(store.context(paragraph))}, "qas": ['
            comma = ""
            while following is not None and following.paragraph == paragraph:
                yield f"{comma}\n{_json(_question(following))}"
                comma, following = ",", next(questions, None)
            yield "]}"
        yield "]}"
    yield "\n]}\n"


def _question(example: Example) -> dict[str, Any]:
    answers = [{"text": answer.text, "answer_start": answer.start} for answer in example.answers]
    told = {"id": example.id, "question": example.question}
    return {**told, "answers": answers, "is_impossible": example.is_impossible}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
