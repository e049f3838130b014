"""A file of answers in the official format: one JSON object, question id to text, "" where unanswerable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from compresskit.data.text_stream import TextStream
from compresskit.errors import InputError
from compresskit.text import from_json, kind_of, to_json, whole_json

MOST = 120_000_000
"""Bytes of a file of answers. Those to 130,000 questions have seven million, twenty to each of 12,000 fifty."""

_MOST_LISTS = 4_000_000  # an answer may have a bracket in it
_MEND = "give a file in the official format: one JSON object, question id to text"


class AnswersWriter:
    """Context manager that writes answers as they come, so that none has to be held; `add` takes one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._separator = "{"

    def add(self, question: str, text: str) -> None:
        """Write the answer to the question with this id."""
        entry = f"{to_json(question)}: {to_json(text)}"
        self._file.write(f"{self._separator}\n{entry}")
        self._separator = ","

    def __enter__(self) -> AnswersWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._file.write("\n}\n" if self._separator == "," else "{}\n")


def read_answers(path: Path) -> Mapping[str, str]:
    """Read a file of answers, plain or packed.

    Raises InputError where it is missing, broken, too large, or holds anything but texts by question id.
    """
    text = text_of(path)
    try:
        value = from_json(text)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {_MEND}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {kind_of(value)}, not answers; {_MEND}")
    for question, answer in value.items():
        if not isinstance(answer, str):
            raise InputError(f"{path}: the answer to {question!r} is {kind_of(answer)}, not a text; {_MEND}")
    return value


def check_size(path: Path) -> None:
    """InputError where a file is larger than any of answers, so that nobody reads it."""
    if path.stat().st_size > MOST:
        raise InputError(f"{path}: holds more than {MOST:,} bytes, too many for answers; divide the questions")


def text_of(path: Path) -> str:
    """The text of a file of answers, plain or gzip.

    Raises InputError where it is no text, or reading it as JSON would take more memory than answers do.
    """
    chunks: list[bytes] = []
    with TextStream(path, str(path)) as stream:
        while chunk := stream.read():
            chunks.append(chunk)
            stream.next_piece()
            if stream.delivered > MOST:
                raise InputError(f"{path}: holds more than {MOST:,} bytes of answers; divide the questions")
    text = whole_json(b"".join(chunks)).decode()
    if text.count("[") + text.count("{") > _MOST_LISTS:
        raise InputError(f"{path}: holds lists and objects in each other, not answers; {_MEND}")
    return text
