"""Parquet with the columns of `datasets`, row by row through pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from compresskit.checkpoint.unpacking import MOST_TIMES, UNASKED
from compresskit.data.checks import Fault, Place
from compresskit.data.pieces import Piece, of_rows
from compresskit.data.raw import KEYS
from compresskit.errors import InputError

_ROWS = 256


def pieces(path: Path, name: str, keep: Sequence[str] = ()) -> Iterator[Piece]:
    """The pieces of a Parquet file; `keep` names further columns that go along.

    Raises Fault where SQuAD's columns are missing, InputError for a file that is damaged.
    """
    import pyarrow.parquet as pq

    try:
        columns = [column for column in pq.read_schema(path).names if column in KEYS or column in keep]
        missing = [column for column in ("context", "question") if column not in columns]
        if missing:
            raise Fault(f"no column {missing[0]!r}; SQuAD's are id, title, context, question, answers", Place(""))
        # A context stands in many rows, but once in the file: so it is kept in memory, too.
        with pq.ParquetFile(path, read_dictionary=["context"], buffer_size=1 << 20, pre_buffer=False) as file:
            metadata = file.metadata
            size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
            if size > max(MOST_TIMES * path.stat().st_size, UNASKED):
                raise InputError(f"{name} unpacks to more than {MOST_TIMES} times its size, as no text does")
            yield from of_rows(_rows(file.iter_batches(batch_size=_ROWS, columns=columns)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} is damaged Parquet ({reason}); copy or make it again") from error


def _rows(batches: Iterator[Any]) -> Iterator[tuple[Mapping[str, Any], Place]]:
    index = 0
    for batch in batches:
        for at in range(batch.num_rows):
            row = {column: batch.column(column)[at].as_py() for column in batch.schema.names}
            yield row, Place(f"row {index}")
            index += 1
