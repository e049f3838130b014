"""Where results may go: never over what is read for them.

Every verb that writes asks here before any work, and for a plan too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from compresskit.errors import UsageError

_SHOWN = 200
"""Characters of a path that a message quotes."""


def check_apart(output: Path, inputs: Iterable[Path], flag: str = "-o") -> None:
    """UsageError where `output` is one of the `inputs`, a folder that holds one, or a name inside of one.

    Both are followed to where they lead, so another spelling or a link makes no difference; an input that is not
    there is nobody's. `flag` is the option that names the output.
    """
    place = _lineage(output)
    for each in inputs:
        read = _lineage(each)
        if read[0] is None or not (place[0] in read or read[0] in place):
            continue
        relation = "is" if place[0] == read[0] else "holds" if place[0] in read else "lies in"
        raise UsageError(f"{flag} {quoted(output)} {relation} {quoted(each)}, which is read; name another place")


def _lineage(path: Path) -> list[tuple[int, int] | None]:
    """A path and all that it lies in, by device and number as the file system has them; None for what is not there."""
    real = Path(os.path.realpath(path))
    return [_number(each) for each in (real, *real.parents)]


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def quoted(path: Path) -> str:
    """A path as a message tells it: its beginning, where it is long."""
    text = str(path)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
