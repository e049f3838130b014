"""Checkpoints of a recipe, made side by side by a few processes.

Each process makes one checkpoint after the other, since it imports torch for seconds. It is started afresh: a copy of a
process that computes has none of its threads.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Self

from compresskit import console
from compresskit.errors import EXIT_INTERRUPTED, RunFailed
from compresskit.evaluate.machine import cpus
from compresskit.evaluate.process import how_it_ended, kept_from_terminals
from compresskit.importing import findable
from compresskit.recipe.recipe import Checkpoint
from compresskit.recipe.state import Workplace

_WORKER = "compresskit.recipe.worker"
# What one that is interrupted has to tidy up in; it ends by itself a little earlier.
_SECONDS_TO_END = 10.0


def made_side_by_side(place: Workplace, jobs: int) -> int:
    """Make the checkpoints of a recipe, at most `jobs` at a time; how many of them are kept.

    One is begun when its inputs are there: of several the one that the longest chain of others waits for, else the
    first in the recipe. Where one fails, or this process is interrupted, those at work are interrupted, and leave what
    can be gone on with. Raises the error of the one that failed first.
    """
    waiting, ready, kept = in_order(place), set[str](), 0
    with _Workers(place, jobs) as workers:
        while waiting or workers.at_work:
            able = [each for each in waiting if ready.issuperset(place.inputs(each))]
            for each in able[: jobs - len(workers.at_work)]:
                waiting.remove(each)
                workers.give(each)
            for name, is_made in workers.answers():
                ready.add(name)
                kept += not is_made
    return kept


def in_order(place: Workplace) -> list[Checkpoint]:
    """The checkpoints of a recipe, those first that the longest chain of others waits for."""
    behind: dict[str, int] = {}
    for each in reversed(place.recipe.checkpoints):
        for name in place.inputs(each):
            behind[name] = max(behind.get(name, 0), behind.get(each.name, 0) + 1)
    return sorted(place.recipe.checkpoints, key=lambda each: -behind.get(each.name, 0))


def threads_of_each(jobs: int) -> int:
    """How many threads each of so many processes computes with: its share of `OMP_NUM_THREADS`, else of the cores."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max((int(told) if told.isdecimal() else cpus()) // jobs, 1)


class _Worker:
    """A process that makes checkpoints; `checkpoint` is the one that it is at, None while it waits."""

    def __init__(self, place: Workplace, threads: int) -> None:
        self.connection, theirs = Pipe()
        self.checkpoint: Checkpoint | None = None
        # -P: a file torch.py where the user happens to stand must not be imported.
        command = [sys.executable, "-P", "-m", _WORKER, str(theirs.fileno())]
        environment = {**findable(os.environ), "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        # It hears of Ctrl-C from this process. What it writes goes to stderr: our stdout belongs to the report.
        with theirs, kept_from_terminals():
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=2, env=environment, pass_fds=[theirs.fileno()]
            )
        self._send((place, console.is_quiet(), console.is_verbose()))

    def give(self, checkpoint: Checkpoint) -> None:
        """Have it make a checkpoint."""
        self.checkpoint = checkpoint
        self._send(checkpoint.name)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it has ended already, as the answer will tell
            self.connection.send(message)

    def answer(self) -> tuple[str, bool]:
        """The name of what it was at, and whether that was made now, not kept; raises the error of making it."""
        assert self.checkpoint is not None
        name, self.checkpoint = self.checkpoint.name, None
        try:
            answer: bool | Exception = self.connection.recv()
        except (EOFError, OSError):
            if (code := self._process.wait()) == EXIT_INTERRUPTED:
                raise KeyboardInterrupt from None
            raise RunFailed(f"step {name}: {how_it_ended(code)}") from None
        if isinstance(answer, Exception):
            raise answer
        return name, answer

    def end(self, until: float) -> None:
        """Wait for its end until that time, and then end it."""
        try:
            self._process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Workers:
    """The processes, started as they are needed; they have ended when the block has, whatever they were at."""

    def __init__(self, place: Workplace, jobs: int) -> None:
        self._place, self._threads = place, threads_of_each(jobs)
        self._all: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._all:
            each.connection.close()  # which ends one that waits, and interrupts one that is at work
        until = time.monotonic() + _SECONDS_TO_END
        for each in self._all:
            each.end(until)

    @property
    def at_work(self) -> Sequence[_Worker]:
        """Those that make a checkpoint now."""
        return [each for each in self._all if each.checkpoint is not None]

    def give(self, checkpoint: Checkpoint) -> None:
        """Have one that waits make a checkpoint, or a new one."""
        idle = next((each for each in self._all if each.checkpoint is None), None)
        if idle is None:
            idle = _Worker(self._place, self._threads)
            self._all.append(idle)
        idle.give(checkpoint)

    def answers(self) -> Iterator[tuple[str, bool]]:
        """Wait, and yield what those tell that are done first; see `_Worker.answer`."""
        heard = wait([each.connection for each in self.at_work])
        for each in [each for each in self.at_work if each.connection in heard]:
            yield each.answer()
