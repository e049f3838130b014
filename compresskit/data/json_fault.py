"""Where a file that is not JSON goes wrong: a second, plain reading, made once the parser has failed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ijson

from compresskit.data.checks import quoted
from compresskit.data.text_stream import TextStream
from compresskit.errors import InputError

PARSER_ERRORS = (ijson.JSONError, ValueError, ArithmeticError, SystemError)
"""What ijson raises: besides its own error those of the str, int and Decimal that it builds; its C part
tells of some of these by a SystemError."""

_EXPECTED = "give SQuAD JSON, or rows as JSON, CSV, TSV or Parquet"
_LITERALS = ("true", "false", "null")
_SPACE = re.compile(r"[ \t\r\n]*")

_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|(-?\d{4301,})', re.DOTALL)
"""A text, or a whole number (the group) with more digits than Python reads."""
_MOST, _MOST_LISTS = 48_000_000, 4_000_000
"""Bytes of text that are read a second time, and lists in it. Every official file has fewer."""


def json_fault(path: Path, name: str, error: Exception, *, several: bool = False) -> InputError:
    """The error for the file at `path`, called `name`, whose parsing failed with `error`.

    `several`: the file is to hold several values, one behind the other, as JSON lines do.

    It tells the line (from 1) and the byte of the text (from 0, a byte-order mark counted). For that the whole text is
    read into memory; where that would be too much, the error has no place.
    """
    text, skipped = _text(path, name)
    if text is None:
        return InputError(f"{name}: not JSON: {_reason(error)}; {_EXPECTED}")
    if not text.strip():
        return InputError(f"{name}: the file is empty; {_EXPECTED}")
    place, reason = _fault(text, error, several)
    if place is None:
        return InputError(f"{name}: not JSON: {reason}; {_EXPECTED}")
    if not text[:place].strip() and text[place:].strip():
        return InputError(
            f"{name}: neither JSON nor a table: no JSON begins with {quoted(text.split(None, 1)[0])}, and no "
            f"delimiter makes 'context' and 'question' columns of the first line; {_EXPECTED}"
        )
    before = text[:place]
    where = f"line {before.count(chr(10)) + 1}, byte {skipped + len(before.encode()):,}"
    if place == len(text):
        return InputError(
            f"{name}: the JSON breaks off at the file's end ({where}): the file is cut short, fetch it again"
        )
    return InputError(f"{name}: not JSON: {where}: {reason}; {_EXPECTED}")


def _text(path: Path, name: str) -> tuple[str | None, int]:
    """The text of a file, None where it is too much to be read as a whole; and the bytes of its byte-order mark."""
    chunks: list[bytes] = []
    with TextStream(path, name) as stream:
        while (chunk := stream.read()) and stream.delivered <= _MOST:
            chunks.append(chunk)
            stream.next_piece()
    whole = b"".join(chunks)
    too_much = stream.delivered > _MOST or whole.count(b"[") > _MOST_LISTS
    return None if too_much else whole.decode(), stream.skipped


def _fault(text: str, error: Exception, several: bool) -> tuple[int | None, str]:
    """The first character that is wrong, and why; the end of the text where the text breaks off."""
    # Nothing is kept of what is read: only the place of the fault is wanted.
    decoder = json.JSONDecoder(object_pairs_hook=_drop, parse_int=_drop, parse_float=_drop, parse_constant=_drop)
    try:
        if not several:
            decoder.decode(text)
        at = 0
        while several and (begins := _SPACE.match(text, at)) and (at := begins.end()) < len(text):
            _, at = decoder.raw_decode(text, at)
    except json.JSONDecodeError as found:
        rest = text[found.pos :].rstrip()
        unfinished = found.msg.startswith("Unterminated string") or any(word.startswith(rest) for word in _LITERALS)
        return len(text) if unfinished else found.pos, found.msg.removesuffix(" at")
    except RecursionError:
        return None, _reason(error)
    return _too_large(text), _reason(error)


def _drop(_: object) -> None:
    """Stand in for whatever Python's json module would build."""


def _too_large(text: str) -> int | None:
    """Where the first number is that has too many digits; None where there is none."""
    return next((found.start() for found in _NUMBER.finditer(text) if found[1]), None)


def _reason(error: Exception) -> str:
    if not isinstance(error, ijson.JSONError):
        return "a number that is too large"
    text = error.args[0] if error.args else ""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return str(text).partition("\n")[0].strip(" .")
