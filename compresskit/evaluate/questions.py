"""The questions that `predict` is asked: a SQuAD file, or JSON lines, of this machine or from a pipe."""

from __future__ import annotations

import codecs
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.checkpoint.reading import MOST, opened, reading
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.errors import InputError
from compresskit.text import from_json, whole_json

if TYPE_CHECKING:
    from compresskit.data.examples import Example
    from compresskit.evaluate.predict import Questions

PIPE = Path("-")

_MEND = "give a SQuAD file, or a UTF-8 file of JSON lines"
# How a SQuAD file begins: packed, with one of its keys, or with an object whose first key stands in another line.
_SQUAD = re.compile(rb"\x1f\x8b|(\xef\xbb\xbf)?\s*\{(\s*\"(data|version)\"\s*:|[ \t\r]*\n\s*\")")


def read_questions(path: Path) -> Questions:
    """The questions of a file, or with `-` of standard input.

    Raises InputError naming the place where the file is broken.
    """
    if path != PIPE:
        return _read(path, str(path))
    with temporary_folder() as folder:
        kept = folder / "input"
        with kept.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return _read(kept, "standard input")


def _read(path: Path, name: str) -> Questions:
    with opened(path, _MEND) as file:
        beginning = file.read(4096)
    if _SQUAD.match(beginning):
        from compresskit.data.reading import read

        return read(path, name, "score")  # no answer is needed
    return list(_of_lines(path, name))


def _of_lines(path: Path, name: str) -> Iterator[Example]:
    """Questions of a JSON-lines file; InputError naming the line where one is broken."""
    from compresskit.data.examples import Example

    for number, line in _lines(path, name):
        try:
            record = from_json(whole_json(line.encode()))
            question, context = record["question"], record["context"]
            if not (isinstance(question, str) and isinstance(context, str)):
                raise TypeError("question and context are texts")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f'{name}, line {number}: not an object with "question" and "context" ({error})') from error
        yield Example(str(record.get("id", number)), "", question, context, (), True, number)


def _lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers; InputError where it is no text, or one has no end."""
    with opened(path, _MEND) as file:
        # Of bytes: a JSON string may hold a line separator of Unicode as it is.
        for number, line in enumerate(iter(lambda: file.readline(MOST + 1), b""), start=1):
            if len(line) > MOST:
                raise InputError(f"{name}, line {number}: it has more than {MOST:,} bytes; {_MEND}")
            if line.strip():
                with reading(path, _MEND):
                    text = line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode()
                yield number, text
