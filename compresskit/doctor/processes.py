"""Tries in processes of their own, a few at a time: one that crashes or hangs is told of, and the next goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from compresskit import console
from compresskit.importing import findable

LIMIT = 60
"""Seconds that a try may take. Most take one; importing torch from a slow disk takes many."""
AT_ONCE = 4

_CHILD = "compresskit.doctor.child"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended: what it `did` and its `facts`, or the `reason` why it failed; and its wall time.

    Where nothing could be tried here, `untried` is set, and `did` says why. `cause` is the module that a failure is
    the fault of, where that is known.
    """

    did: str
    facts: dict[str, Any]
    reason: str | None
    seconds: float
    untried: bool = False
    cause: str | None = None


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    answer: IO[bytes]
    began: float


def outcomes(names: Sequence[str], folder: Path, at_once: int, limit: int = LIMIT) -> Generator[Outcome, None, None]:
    """The outcomes of tries, in the order of their names, each as soon as it and those before it are there.

    `folder` is for their temporary files. All processes have ended when this has.
    """
    running: deque[_Running] = deque()
    waiting = deque(names)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_start(waiting.popleft(), folder, limit))
            yield _outcome(running[0], limit)
            _end(running.popleft())
    finally:
        for each in running:
            _end(each)


def _start(name: str, folder: Path, limit: int) -> _Running:
    # -P: a file torch.py where the user happens to stand must not be imported.
    command = [sys.executable, "-P", "-m", _CHILD, name, str(limit + 5)]
    environment = {
        **findable(os.environ),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    answer = tempfile.TemporaryFile()  # noqa: SIM115 - not a pipe, which what a try starts could hold open
    said = None if console.is_verbose() else subprocess.DEVNULL
    # A session of its own, so that whatever it starts ends with it, and Ctrl-C is heard by this process alone.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=answer, stderr=said, env=environment, start_new_session=True
    )
    return _Running(process, answer, time.monotonic())


def _outcome(running: _Running, limit: int) -> Outcome:
    """Wait for a process, for as long as is left to it."""
    try:
        code = running.process.wait(max(running.began + limit - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        return Outcome("", {}, f"no answer within {limit} s", float(limit))
    seconds = round(time.monotonic() - running.began, 2)
    running.answer.seek(0)
    try:
        found = json.loads(running.answer.read())
    except ValueError:
        return Outcome("", {}, _how_it_ended(code), seconds)
    told = found.get("did", ""), found.get("facts", {}), found.get("reason")
    return Outcome(*told, found["seconds"], found.get("untried", False), found.get("cause"))


def _how_it_ended(code: int) -> str:
    """In words, how a process that left no answer ended."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        return f"its process crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"its process crashed (signal {-code})"


def _end(running: _Running) -> None:
    """End a process and what it has started, and forget its answer."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()
    running.answer.close()
