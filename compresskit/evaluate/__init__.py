"""Evaluation: checkpoints in, a report out.

From the command to the table: `config` and `settings` (what to do), `evaluate` (every checkpoint, from the `cache` or
in a `process` of its own), `worker` (that process: it loads, asks, measures), `compare` and `stats` (intervals,
differences), `slice`, `slicing` and `slices` (parts of the questions), `overlap` (with training data), `gate`
(verdicts), `report/` (one file a format), `delivery` (where they go). What is handed on:
`measurement` (to the worker and back), `row` (the report; `figures` and `units` describe its numbers), `answers` (the
official format). What the worker uses: `collect` and `predict` (answers to questions), `shard` (several processes),
`score` (EM and F1), `metrics` and `harness` (other figures), `measure` (bytes, memory, time). `combine` puts saved
reports together; `evaluator` scores a checkpoint that was just made; `heatmap` is for `inspect`, and `image` for
whatever is drawn.
"""

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, which can be called: its name is that of a function of the Python API (`ck.evaluate`)."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _function()(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_function())

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return inspect.getdoc(_function())


def _function() -> Any:
    return importlib.import_module("compresskit.api.evaluating").evaluate


sys.modules[__name__].__class__ = _Callable
