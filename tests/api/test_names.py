"""The public names: all there, looked up late, and cheap."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import compresskit as ck

HEAVY = ("torch", "transformers", "typer", "rich", "numpy", "typing")


def imported(code: str) -> list[str]:
    """Which heavy modules are there after some code, in a process that has none before."""
    tail = f"\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys\nsys.path.insert(0, {root!r})\n{code}{tail}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return list(ast.literal_eval(done.stdout))


def test_the_package_imports_nothing() -> None:
    assert imported("import compresskit") == []
    assert imported("import compresskit as ck\nck.CompresskitError\ndir(ck)") == []


def test_every_name_is_there() -> None:
    assert sorted(ck.__all__, key=lambda name: (not name[0].isupper(), name)) == ck.__all__
    for name in ck.__all__:
        assert getattr(ck, name) is not None
        assert name in dir(ck)
    with pytest.raises(AttributeError, match="has no attribute 'prunes'"):
        _ = ck.prunes  # type: ignore[attr-defined]


def test_types_are_told_of_the_same_names_as_the_program() -> None:
    """The imports that a type checker sees are those that `__getattr__` makes."""
    (block,) = (
        each
        for each in ast.parse(Path(ck.__file__).read_text()).body
        if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
    )
    seen = {
        alias.name: each.module
        for each in block.body
        if isinstance(each, ast.ImportFrom) and each.module != "typing"
        for alias in each.names
    }
    assert seen.pop("evaluate") == "compresskit.api.evaluating"
    assert seen == ck._PLACE_OF
    assert {*seen, "evaluate", "register", "__version__"} == set(ck.__all__)


def test_type_checkers_of_others_read_its_types() -> None:
    """PEP 561."""
    assert (Path(ck.__file__).parent / "py.typed").is_file()


def test_the_package_evaluate_is_the_function_too() -> None:
    import compresskit.evaluate.row as row
    from compresskit.api.evaluating import evaluate

    assert row.Row is ck.Row
    assert inspect.signature(ck.evaluate) == inspect.signature(evaluate)
    assert (ck.evaluate.__doc__ or "").startswith("Measure checkpoints side by side")
    with pytest.raises(ck.UsageError, match="no checkpoint to evaluate"):
        ck.evaluate([], data="demo")
