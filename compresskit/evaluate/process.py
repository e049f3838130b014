"""Measure one checkpoint in a fresh process, so that its memory and time are its own and its crash is not ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from compresskit import console
from compresskit.errors import RunFailed
from compresskit.evaluate.measurement import Measurement, Outcome
from compresskit.importing import findable

_WORKER = "compresskit.evaluate.worker"
_SECONDS_TO_END = 2.0


def measure_in_process(measurement: Measurement) -> Outcome:
    """Run the worker and return its outcome; where it left none, the outcome says how its process ended."""
    code = _run_worker(measurement)
    try:
        return Outcome.read(measurement.folder)
    except (OSError, ValueError):
        return Outcome(error=how_it_ended(code), error_code=RunFailed.exit_code)


def _run_worker(measurement: Measurement) -> int:
    """Start the worker, hand it the measurement, wait, and return its exit code."""
    if not Path(measurement.ref).is_file():  # a file of answers needs neither
        console.info(f"{measurement.name}: loading torch and transformers, in a process of its own")
    with started(_WORKER, measurement) as process:
        return process.wait()


@contextlib.contextmanager
def started(module: str, measurement: Measurement, stdout: int = 2) -> Iterator[subprocess.Popen[str]]:
    """A process of a module, which has been handed a measurement; it ends with the block at the latest.

    It ends when its standard input does, so with this process, however that ends. What it writes goes to stderr, unless
    `stdout` says otherwise: our stdout belongs to the report.
    """
    # -P: a file torch.py where the user happens to stand must not be imported.
    command, environment = [sys.executable, "-P", "-m", module], _environment(measurement.folder)
    with kept_from_terminals():
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stdout, env=environment, text=True, encoding="utf-8"
        )
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended already, as its exit code will tell
            process.stdin.write(measurement.to_json() + "\n")
            process.stdin.flush()
        yield process
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def kept_from_terminals() -> Iterator[None]:
    """Let processes that are started within it not hear of Ctrl-C; it is this one that ends them.

    A terminal tells all of its processes at once, and one that has just begun could answer by a traceback alone.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(folder: Path) -> dict[str, str]:
    """Our environment for a worker.

    Its temporary files are in its own folder, so that they go with that where it crashes.
    """
    return {**findable(os.environ), "TMPDIR": str(folder)}


def how_it_ended(code: int) -> str:
    """One line about a worker that left no outcome."""
    if code == RunFailed.exit_code:  # the code of a worker that has something to say, and no room for it
        return "its result could not be written; set TMPDIR to a folder with room"
    if code >= 0:
        return f"its process ended with exit code {code}; run it alone with -v to see why"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL:
        return f"its process was ended by {name}, most likely out of memory; give a smaller --batch-size"
    return f"its process was ended by {name}; run it alone with -v to see why"
