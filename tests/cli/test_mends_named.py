"""What error lines name is there: options are of a verb, extras are in pyproject.toml, verbs are verbs."""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import compresskit
from compresskit.cli.app import app, verb_names

PACKAGE = Path(compresskit.__file__).parent
# Of `hf download`, of every verb, the beginning of what turns one off, and of pip.
OTHERS = {"--local-dir", "--help", "--no-", "--force-reinstall", "--no-deps", "--no-build-isolation", "--index-url"}
NO_VERBS = {"alone", "knows", "needs", "reads"}


@functools.cache
def texts() -> tuple[tuple[str, str], ...]:
    """See `found_texts`."""
    return tuple(found_texts())


def found_texts() -> Iterator[tuple[str, str]]:
    """All texts of the package that are no docstrings, with their places; those of an f-string with `{}` for values."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                shown = (str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
                yield place, "".join(shown)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told | parts:
                yield place, node.value


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """The options of all verbs, and the global ones."""
    found: set[str] = set()
    waiting = [typer.main.get_command(app)]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found |= {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return found


def test_every_option_is_there(flags: set[str]) -> None:
    assert {"--max-length", "--targets", "--overwrite"} <= flags
    named = {(place, option) for place, text in texts() for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", text)}
    assert len(named) > 150
    assert [each for each in sorted(named) if each[1] not in flags | OTHERS] == []


def test_every_extra_is_there() -> None:
    extras = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for _, text in texts() for extra in re.findall(r"compresskit\[([\w,]+)\]", text)}
    assert named <= extras.keys()  # the commands of `packages` are made of the extras themselves
    page = (PACKAGE.parent / "docs" / "how-to" / "installing.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert {"plot", "onnx", "metrics"} <= told == extras.keys() - {"dev", "docs", "fuzz"}


def test_every_verb_is_there() -> None:
    named = {verb for _, text in texts() for verb in re.findall(r"\bcompresskit ([a-z]+)\b", text)}
    assert {"merge", "train", "lora"} <= named <= {*verb_names(), *NO_VERBS}
