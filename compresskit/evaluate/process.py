"""Measure one checkpoint in a fresh process, so that its memory and time are its own and its crash is not ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import compresskit
from compresskit.errors import RunFailed
from compresskit.evaluate.measurement import Measurement, Outcome

_WORKER = "compresskit.evaluate.worker"
_SECONDS_TO_END = 10.0


def measure_in_process(measurement: Measurement) -> Outcome:
    """Run the worker and return its outcome; where it left none, the outcome says how its process ended."""
    code = _run_worker(measurement)
    try:
        return Outcome.read(measurement.folder)
    except (OSError, ValueError):
        return Outcome(error=_how_it_ended(code), error_code=RunFailed.exit_code)


def _run_worker(measurement: Measurement) -> int:
    """Start the worker, hand it the measurement, wait, and return its exit code; an interrupt ends it too.

    What the worker writes goes to stderr: stdout belongs to the report.
    """
    # -P: a file torch.py where the user happens to stand must not be imported.
    command = [sys.executable, "-P", "-m", _WORKER]
    with (
        _ended_by_signals(),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=2, env=_environment(), text=True, encoding="utf-8"
        ) as process,
    ):
        try:
            process.communicate(measurement.to_json())
            return process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a CI job's time is up) end this process by an exception, so that the worker ends too."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    """Our environment, in which the worker finds this package even if it is not installed."""
    root = str(Path(compresskit.__file__).resolve().parents[1])
    if Path(root).name in {"site-packages", "dist-packages"}:
        return dict(os.environ)
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _how_it_ended(code: int) -> str:
    """One line about a worker that left no outcome."""
    if code >= 0:
        return f"its process ended with exit code {code}; run it alone with -v to see why"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL:
        return f"its process was ended by {name}, most likely out of memory; give a smaller --batch-size"
    return f"its process was ended by {name}; run it alone with -v to see why"
