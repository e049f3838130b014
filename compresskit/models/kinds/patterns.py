"""Whether the patterns in an adapter's configuration come to an end.

PEFT takes many of its settings for regular expressions, and matches them with the name of every module. One like
`(a+)+b` takes longer than anybody waits, and nothing in Python stops it. So they are tried first, in a process that
can be ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compresskit.checkpoint.store import read_json
from compresskit.errors import InputError
from compresskit.text import one_line

SECONDS = 3.0
"""How long the patterns of an honest adapter may take, the start of the process included: they take milliseconds."""

# Both ways in which PEFT matches. What is no pattern, PEFT refuses by itself.
_MATCH = r"""
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    try:
        forms = [re.compile(pattern), re.compile(rf"(.*\.)?({pattern})($|\..*)")]
    except (re.error, OverflowError, RecursionError):
        continue
    for form in forms:
        for name in names:
            form.fullmatch(name)
"""


def check_patterns(path: Path, names: Iterable[str]) -> None:
    """InputError where a text in an adapter's configuration, taken for a pattern, does not come to an end.

    `path` is that of the configuration, `names` are those of the modules that it is matched with.
    """
    found = sorted(set(_repeating(read_json(path)))) if path.is_file() else []
    if not found:
        return
    command = [sys.executable, "-I", "-S", "-c", _MATCH]
    try:
        subprocess.run(
            command,
            input=json.dumps([found, list(names)]).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{path} holds a pattern that takes too long to match (one of {one_line(', '.join(found))[:200]}); "
            "write the names of the modules in its place"
        ) from error


def _repeating(value: Any) -> Iterator[str]:
    """The texts in a JSON value, keys too, that would repeat something as a pattern; all others match at once."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from (*_repeating(key), *_repeating(each))
    elif isinstance(value, list):
        for each in value:
            yield from _repeating(each)
    elif isinstance(value, str) and not {"*", "+", "{", "?"}.isdisjoint(value):
        yield value
