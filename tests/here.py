"""Evaluations that measure in this process: a fresh one imports torch and transformers for seconds, once a checkpoint.

What is of the fresh process itself is tested by `tests/evaluate/test_worker.py` and `tests/cli/test_examples.py`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from compresskit import console
from compresskit.evaluate import process, turns, worker
from compresskit.evaluate.measurement import Measurement


def _run_worker(measurement: Measurement) -> int:
    """What the worker does with the line that it would read; its standard output is our standard error there too."""
    with contextlib.redirect_stdout(sys.stderr), pytest.MonkeyPatch.context() as patched:
        patched.setattr(console, "configure", lambda **_: None)  # this process is, by whoever evaluates
        return worker._measured(Measurement.from_json(measurement.to_json()))


@contextlib.contextmanager
def _start(measurement: Measurement) -> Iterator[turns.Runner]:
    """A checkpoint that is measured in turns, as its process does it."""
    from compresskit.evaluate.turn import Turn

    made = Turn(Measurement.from_json(measurement.to_json()))
    costs = {key: value for key, value in made.costs.items() if value is not None}
    yield cast(turns.Runner, SimpleNamespace(costs=costs, round=made.round))


@contextlib.contextmanager
def measuring_here() -> Iterator[None]:
    """Within it, evaluations start no process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "_run_worker", _run_worker)
        patched.setattr(turns, "_start", _start)
        yield
