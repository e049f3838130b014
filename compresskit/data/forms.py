"""Which form the data in a file have, told by what is in it, never by its name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

from compresskit.checkpoint.reading import opened
from compresskit.data.checks import Fault
from compresskit.data.json_fault import PARSER_ERRORS
from compresskit.data.json_pieces import Events
from compresskit.data.text_stream import TextStream

Form = Literal["squad", "rows", "array", "lines", "table", "parquet"]
"""SQuAD JSON; `{"data": [rows]}`; a JSON array of rows; JSON lines; CSV or TSV; Parquet."""

PARQUET_MAGIC = b"PAR1"
DELIMITERS = ("\t", ",", ";")
_START = 1 << 16  # bytes in which the first line of a table ends
_OF_ROW = ("context", "question", "qas")


def form_of(path: Path, name: str) -> Form:
    """The form of the data in a file. Raises InputError for one that cannot be read as text, unless it is Parquet.

    What has no form that can be told is taken for SQuAD JSON, whose reader says what is wrong with it.
    """
    with opened(path) as file:
        if file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC:
            return "parquet"
    with TextStream(path, name) as stream:
        start = stream.read(_START).decode(errors="ignore")
    if start.lstrip()[:1] not in ("{", "["):
        return "table" if delimiter_of(start.splitlines()[0] if start else "") else "squad"
    if start.lstrip().startswith("["):
        return "array"
    with TextStream(path, name) as stream:
        return _of_object(Events(stream, several=True, chunk=_START))


def delimiter_of(line: str) -> str | None:
    """What stands between the columns of a table whose first line this is; None where it names no question."""
    for delimiter in DELIMITERS:
        if {"context", "question"} <= set(header_of(line, delimiter)):
            return delimiter
    return None


def header_of(line: str, delimiter: str) -> list[str]:
    """The names of the columns in the first line of a table, in small letters."""
    return [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]


def _of_object(events: Events) -> Form:
    """The form of JSON that begins with an object, by the first keys that tell it."""
    try:
        keys: set[str] = set()
        for prefix, event, value in events:
            if prefix == "" and event == "map_key":
                keys.add(value)
            elif prefix == "data.item" and event == "map_key":
                if value == "paragraphs":
                    return "squad"
                if value in _OF_ROW:
                    return "rows"
            elif event.startswith("end_") and prefix == "data":
                return "squad"
            elif prefix == "" and event == "end_map":
                return "lines" if keys & {*_OF_ROW, "paragraphs", "header"} else "squad"
    except (Fault, *PARSER_ERRORS):  # of which the reader tells
        if keys & {*_OF_ROW, "header"}:
            return "lines"
    return "squad"
