"""The process of a caller: what a call changes in it is put back, nothing is printed unasked, and errors are ours."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from compresskit import console
from compresskit.errors import CompresskitError, RunFailed, is_panic, known_as

_LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "huggingface_hub",
    "onnxscript",
    "peft",
    "torch",
    "transformers",
)
_BARS = "transformers.utils.logging"
_ABOVE_ALL = logging.CRITICAL + 1

_told: ContextVar[tuple[bool, bool]] = ContextVar("compresskit.api.told", default=(False, False))


@contextlib.contextmanager
def progress(*, verbose: bool = False) -> Iterator[None]:
    """Within the block, calls tell what they do, on stderr: what is going on, and progress; with `verbose` all of it.

    Outside of one they print warnings alone. `verbose` shows what libraries say too.

    Example:
        >>> with ck.progress():
        ...     dense = ck.train("demo/bert", output="runs/dense")
    """
    token = _told.set((True, verbose))
    try:
        yield
    finally:
        _told.reset(token)


@contextlib.contextmanager
def as_found(*, computes: bool = False) -> Iterator[None]:
    """Around a call: seeds, levels of logging and what warns are as before behind it.

    `computes` says that torch will be used in this process. Raises a `CompresskitError` for each failure that is not a
    fault of the program: also for a full disk, for memory that is not there, and for what a library in Rust ends with.
    """
    informed, verbose = _told.get()
    # Otherwise onnxruntime keeps a device id in the user's home, and sends what it counts to its maker.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if computes:
        importlib.import_module("torch")  # so that its seeds are kept too
        importlib.import_module(_BARS)  # which sets its logger's level, as the caller's environment says
    with contextlib.ExitStack() as stack:
        for kept in _seeds():
            stack.callback(kept)
        if not verbose:
            stack.enter_context(_libraries_silent())
        stack.enter_context(console.printing(quiet=not informed, verbose=verbose))
        try:
            yield
        except CompresskitError:
            raise
        except Exception as error:
            if (known := known_as(error)) is None:
                raise
            raise known from error
        except BaseException as error:
            if is_panic(error):
                raise RunFailed(f"a library failed by itself: {error}") from error
            raise


def _seeds() -> Iterator[Callable[[], Any]]:
    """What puts the states of all random generators back to those of now."""
    state = random.getstate()
    yield lambda: random.setstate(state)
    if numpy := sys.modules.get("numpy"):
        of_numpy = numpy.random.get_state()
        yield lambda: numpy.random.set_state(of_numpy)
    if torch := sys.modules.get("torch"):
        of_torch = torch.get_rng_state()
        yield lambda: torch.set_rng_state(of_torch)
        if torch.cuda.is_initialized():
            of_gpus = torch.cuda.get_rng_state_all()
            yield lambda: torch.cuda.set_rng_state_all(of_gpus)


@contextlib.contextmanager
def _libraries_silent() -> Iterator[None]:
    """Keep libraries from warning of what no user can mend; the caller's own loggers and warnings stay.

    A library that is imported within sets its own level, which then stays.
    """
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    imported = {name for name in _LIBRARIES if name in sys.modules}
    bars = _shows_bars()
    if of_transformers := sys.modules.get(_BARS):
        of_transformers.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(_ABOVE_ALL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            if logger.name in imported or logger.level == _ABOVE_ALL:
                logger.setLevel(level)
        if bars and (of_transformers := sys.modules.get(_BARS)):
            of_transformers.enable_progress_bar()


def _shows_bars() -> bool:
    of_transformers = sys.modules.get(_BARS)
    return of_transformers is None or bool(of_transformers.is_progress_bar_enabled())
