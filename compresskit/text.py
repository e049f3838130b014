"""Text that others wrote, made fit to be shown, and values made fit to be JSON.

A file's name, a manifest or a data set may hold anything: codes that steer a terminal, halves of characters, megabytes.
Whatever is printed or reported passes through here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

QUOTED = 200
"""Characters of a quoted text that a message keeps."""
LONGEST = 2000
"""Characters of a whole message; of a longer one the middle is left out, for its end tells the mend."""

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
    """The value of a JSON text; ValueError where it is not JSON, or holds a number that is not finite (`1e999`)."""
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


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
