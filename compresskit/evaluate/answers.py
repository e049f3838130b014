"""A file of answers in the official format: one JSON object, question id to text, "" where unanswerable."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from compresskit.errors import InputError
from compresskit.text import to_json


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
    """Read a file of answers, plain or gzip.

    Raises InputError where it is missing, broken, or holds anything but texts by question id.
    """
    mend = "give a file in the official format: one JSON object, question id to text"
    try:
        raw = path.read_bytes()
        value = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {mend}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, not answers; {mend}")
    for question, text in value.items():
        if not isinstance(text, str):
            raise InputError(f"{path}: the answer to {question!r} is a {type(text).__name__}, not a text; {mend}")
        if not f"{question}{text}".isascii() and any("\ud800" <= letter <= "\udfff" for letter in question + text):
            raise InputError(
                f"{path}: {question!r} or its answer holds half a character (a lone surrogate); write it anew"
            )
    return value
