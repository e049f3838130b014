"""Signals that end a command: SIGTERM and SIGHUP (a CI job's time is up, a terminal has gone) do as Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)
# Who ends a job often sends both, or one twice: what comes so soon after must not disturb the tidying up.
_SECONDS = 5.0


class Interrupt:
    """Which signal has ended a command: its `name`, None for Ctrl-C or none."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._time = float("-inf")

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Raise KeyboardInterrupt, as Ctrl-C does."""
        before, self._time = self._time, time.monotonic()
        if self._time - before > _SECONDS:
            self.name = signal.Signals(number).name
            raise KeyboardInterrupt

    def told(self) -> str:
        """The line about it."""
        return f"interrupted by {self.name}" if self.name else "interrupted"


@contextlib.contextmanager
def ended_by_signals() -> Iterator[Interrupt]:
    """Within it SIGTERM and SIGHUP raise KeyboardInterrupt, unless they are ignored (`nohup`) or handled already."""
    interrupt = Interrupt()
    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in _ENDING if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield interrupt
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
