"""How long a run has worked: all of its parts together, where it was interrupted and resumed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from compresskit.checkpoint.store import read_json, write_json
from compresskit.errors import InputError

# Where the seconds of a run are kept from one part to the next, in its workspace.
FILE = "clock.json"


def now() -> float:
    """The moment, in seconds from one that does not matter."""
    return time.perf_counter()


class Stopwatch:
    """Counts seconds from the moment that it is made, on top of those `before`."""

    def __init__(self, before: float = 0.0) -> None:
        self._started = now() - before

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        return now() - self._started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the seconds of the block out."""
        began = now()
        yield
        self._started += now() - began


class RunClock(Stopwatch):
    """The wall time of a run with the workspace `work`, those of its parts before an interruption included.

    `keep` is called whenever something is finished that a resumed run does not do again. So what was lost with an
    interruption counts once. Raises InputError where what an earlier part kept is not a number of seconds.
    """

    def __init__(self, work: Path) -> None:
        self._path = work / FILE
        super().__init__(_kept(self._path))

    def keep(self) -> None:
        """Write down the seconds so far; the first process of a run does."""
        write_json(self._path, {"seconds": self.seconds})


def _kept(path: Path) -> float:
    if not os.path.lexists(path):
        return 0.0
    known = read_json(path)
    seconds = known.get("seconds") if isinstance(known, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise InputError(f"{path} does not tell how long the run worked; remove it to go on")
    return float(seconds)
