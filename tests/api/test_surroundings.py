"""A call leaves its process as it found it, and raises the package's errors."""

from __future__ import annotations

import errno
import logging
import random
import warnings

import numpy as np
import pytest
import torch
from transformers.utils import logging as of_transformers

import compresskit as ck
from compresskit import console
from compresskit.api.surroundings import as_found


def drawn() -> list[object]:
    return [random.random(), float(np.random.rand()), torch.rand(2).tolist()]


def test_seeds_are_put_back() -> None:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    wanted = drawn()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    with as_found(computes=True):
        drawn()
        torch.manual_seed(99)
    assert drawn() == wanted


def test_logging_and_warnings_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    logger, own = logging.getLogger("transformers"), logging.getLogger("mine")
    level, filters, disabled = logger.level, list(warnings.filters), logging.root.manager.disable
    bars = of_transformers.is_progress_bar_enabled()
    of_transformers.enable_progress_bar()
    try:
        with as_found(), warnings.catch_warnings(record=True) as caught:
            warnings.warn("a library's", stacklevel=1)
            assert not logger.isEnabledFor(logging.CRITICAL)
            assert own.isEnabledFor(logging.CRITICAL)
            assert not of_transformers.is_progress_bar_enabled()
        assert not caught
        assert of_transformers.is_progress_bar_enabled()
    finally:
        (of_transformers.enable_progress_bar if bars else of_transformers.disable_progress_bar)()
    assert (logger.level, warnings.filters, logging.root.manager.disable) == (level, filters, disabled)


def test_a_library_that_is_imported_within_keeps_its_own_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers does, which reads TRANSFORMERS_VERBOSITY; one that sets none is as before."""
    monkeypatch.setattr("compresskit.api.surroundings._LIBRARIES", ("sets_one", "sets_none"))
    for name in ("sets_one", "sets_none"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    with as_found():
        logging.getLogger("sets_one").setLevel(logging.INFO)
    assert [logging.getLogger(name).level for name in ("sets_one", "sets_none")] == [logging.INFO, logging.NOTSET]


def test_nothing_is_told_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        with as_found():
            console.info("on it")
            console.warn("beware")

    before = console.is_quiet()
    call()
    assert capsys.readouterr().err == "warning: beware\n"
    with ck.progress():
        call()
    assert capsys.readouterr().err == "on it\nwarning: beware\n"
    call()
    assert capsys.readouterr().err == "warning: beware\n"
    assert console.is_quiet() == before


class PanicException(BaseException):
    """What a library in Rust raises."""


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out"), ck.RunFailed, "disk full while writing out"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), ck.InputError, "x: No such file"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), ck.RunFailed, "out of memory; use a smaller"),
        (PanicException("at the disco"), ck.RunFailed, "a library failed by itself: at the disco"),
        (ck.InputError("broken"), ck.InputError, "broken"),
        (ZeroDivisionError("a fault"), ZeroDivisionError, "a fault"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_a_failure_is_an_error_of_the_package(raised: BaseException, kind: type[BaseException], message: str) -> None:
    level = logging.getLogger("peft").level
    with pytest.raises(kind) as caught, as_found():
        raise raised
    assert str(caught.value).startswith(message)
    assert logging.getLogger("peft").level == level
