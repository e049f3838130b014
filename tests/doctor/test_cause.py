"""Whose fault an error is."""

import sys
from pathlib import Path

import pytest

from compresskit.doctor.cause import cause_of


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `outer_made_here` that imports `inner_made_here`, which does not load."""
    (tmp_path / "inner_made_here.py").write_text("import ctypes; ctypes.CDLL('not there')")
    (tmp_path / "outer_made_here.py").write_text("import inner_made_here")
    (tmp_path / "lacking_made_here.py").write_text("import not_there_at_all.within")
    monkeypatch.syspath_prepend(str(tmp_path))


def caught(module: str) -> BaseException:
    with pytest.raises((ImportError, OSError)) as found:
        __import__(module)
    sys.modules.pop(module, None)
    return found.value


def test_the_deepest_package_is_to_blame_and_not_pythons_own() -> None:
    assert cause_of(caught("outer_made_here")) == "inner_made_here"


def test_a_missing_module_is_to_blame() -> None:
    assert cause_of(caught("lacking_made_here")) == "not_there_at_all"


def test_what_an_error_was_made_of_counts() -> None:
    error = RuntimeError("ours")
    error.__cause__ = caught("outer_made_here")
    assert cause_of(error) == "inner_made_here"


def test_nobody_is_where_nothing_tells() -> None:
    assert cause_of(RuntimeError("never raised")) is None
