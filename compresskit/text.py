"""Text that others wrote, made fit to be shown, and values made fit to be JSON.

A file's name, a manifest or a data set may hold anything: codes that steer a terminal, halves of characters, megabytes.
Whatever is printed or reported passes through here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

QUOTED = 200
"""Characters of a quoted text that a message keeps."""
LONGEST = 2000
"""Characters of a whole message; of a longer one the middle is left out, for its end tells the mend."""

DEEPEST = 100
"""Lists and objects within each other that are read. Python's own walks over a value end at some 1,000."""
TOO_DEEP = f"its lists and objects are nested deeper than {DEEPEST}"

_LONGEST_NUMBER = 14_000  # bits; Python writes out no number of more than 4,300 digits
_HALVES = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")

# Control characters but for tab and line feed; what turns the direction of writing, so that a line reads otherwise
# than it is; halves of characters, and what XML forbids.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
# An apostrophe within a word opens nothing.
_LONG_QUOTE = re.compile(rf"(?<!\w)(?P<mark>['\"])(?P<start>[^'\"]{{{QUOTED}}})[^'\"]+(?P=mark)(?!\w)")


def printable(text: str) -> str:
    r"""`text` with `\u001b` and its like in the place of each character that is not fit to be shown.

    Written so, JSON still holds the same values.
    """
    return _UNFIT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_HALF = re.compile("[\ud800-\udfff]")
# A pair of escaped halves, half a character alone (the group), or any other escape of JSON.
_ESCAPE = rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)|\\u....|\\."
_ESCAPES = re.compile(_ESCAPE, re.DOTALL)
_ANY_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_TEXT_OR_NAN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)|NaN|-?Infinity', re.DOTALL)
LONGEST_ESCAPE = 12
"""Bytes of a character of JSON that is written as a pair of escapes."""


def whole(text: str) -> str:
    """`text` with U+FFFD in the place of each half character (a lone surrogate), which no file can hold."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def whole_json(text: bytes) -> bytes:
    r"""A text of JSON with `\ufffd` in the place of each escape of half a character; as long as it was."""
    if not _ANY_HALF.search(text):
        return text
    return _ESCAPES.sub(lambda found: b"\\ufffd" if found[1] else found[0], text)


def without_nan(text: bytes, within: bool) -> tuple[bytes, bool]:
    """A piece of JSON with null in the place of NaN and Infinity, which Python writes and JSON does not have.

    `within` says whether it begins within a text; told is, too, whether it ends within one. No escape is cut.
    """
    quotes = text.replace(rb"\\", b"").replace(rb"\"", b"").count(b'"')
    if b"NaN" in text or b"Infinity" in text:
        opened = b'"' if within else b""
        text = _TEXT_OR_NAN.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", opened + text)
        text = text[len(opened) :]
    return text, within != bool(quotes % 2)


def ends_within_escape(text: bytes) -> int | None:
    """Where an escape of JSON begins that the end of `text` may have cut; None where there is none."""
    if b"\\" not in text[-LONGEST_ESCAPE + 1 :]:
        return None
    begins = len(text) - LONGEST_ESCAPE + 1
    at = 0
    for found in _ESCAPES.finditer(text):
        at = found.end()
        if found.start() >= begins:
            return found.start()
    # What is left is too short for an escape.
    left = text.find(b"\\", max(at, begins, 0))
    return left if left >= 0 else None


def one_line(message: str) -> str:
    """A message on one line, of bounded length: quoted text is cut at 200 characters, the whole at 2,000."""
    flat = " ".join(_shortened(message, 4 * LONGEST).split())
    flat = _LONG_QUOTE.sub(lambda found: f"{found['mark']}{found['start']}…{found['mark']}", flat)
    flat = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)
    return _shortened(flat, LONGEST)


def _shortened(text: str, longest: int) -> str:
    """`text`, without its middle where it is too long."""
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end]} … {text[-end:]}"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of a value, in which nothing steers a terminal; ValueError for a number that is not finite.

    JSON has no word for such a number. Where a figure may be missing, `finite_or_none` puts null in its place.
    """
    return printable(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text; a byte-order mark before it is passed over.

    ValueError where it is not JSON, is nested deeper than 100, or holds a number that is not finite (`1e999`) or of
    more than 4,300 digits, or half a character.
    """
    text = text.removeprefix("\ufeff") if isinstance(text, str) else text  # Python itself drops it from bytes
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    check_depth(value)
    if _HALVES.search(text if isinstance(text, str) else text.decode("latin-1")):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it holds half a character, a lone surrogate") from error
    return value


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 tensor`, `2 tensors`, `1,200 questions`; the noun is one that takes an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_article(word: str) -> str:
    """A word with its article by how it is spelt: `a bert`, `an albert`; for names such as those of model types."""
    return f"{'an' if word[:1].lower() in tuple('aeio') else 'a'} {word}"


def kind_of(value: Any) -> str:
    """What a value of JSON, YAML or TOML is, in words with their article: `a list`, `an object`, `a whole number`."""
    return next((told for kind, told in _KINDS if isinstance(value, kind)), f"a value of type {type(value).__name__}")


# In this order: Python counts true and false among the whole numbers.
_KINDS: Sequence[tuple[type, str]] = (
    (str, "a text"),
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "an object"),
    (type(None), "null"),
)


def check_depth(value: Any, inner: Callable[[Any], Iterable[Any]] | None = None, most: int | None = None) -> None:
    """ValueError where a value is nested deeper than 100, holds more than `most` values, or too large a number.

    Whoever walks over it, or shows it, then needs no more than that. `inner` tells what a value holds.
    """
    inner, level, count = inner or _held, [value], 0
    for _ in range(DEEPEST + 1):  # the value itself, and what is in so many lists within each other
        following: list[Any] = []
        for outer in level:
            following += inner(outer)
            if most is not None and count + len(following) > most:
                raise ValueError(f"it unfolds to more than {most:,} values")
        if not following:
            return
        level, count = following, count + len(following)
    raise ValueError(TOO_DEEP)


def _held(value: Any) -> Iterable[Any]:
    """What JSON, YAML or TOML holds in a value; ValueError for a whole number that nobody can write out."""
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER:
        raise ValueError("it holds a whole number of more than 4,300 digits")
    return value if isinstance(value, list | tuple) else ()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def finite_or_none(value: Any) -> Any:
    """The same value, with None in the place of each number in it that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_none(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(each) for each in value]
    return value


def rate_of(per_second: float, unit: str) -> str:
    """How many of a `unit` a second, such as `12 steps/s`."""
    number = f"{per_second:.2f}" if per_second < 10 else f"{per_second:.0f}"
    return f"{number} {unit}/s" if unit else f"{number}/s"


def clock_of(seconds: float) -> str:
    """A time as `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
