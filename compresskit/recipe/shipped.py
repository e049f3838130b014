"""The recipes that come with the package, by name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from compresskit.checkpoint.reading import read_text
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.settings_text import MOST_YAML

_PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """Where the recipes lie: in the package where that is installed, beside it in a working copy."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent / "recipes"


def names() -> list[str]:
    """The names of the recipes, sorted."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(recipe: str) -> Path:
    """The file of a recipe: a name of `names`, or a file of YAML.

    Raises UsageError for a name that is none, InputError for a file that is not there.
    """
    if recipe in names() and not os.path.isfile(recipe):
        return folder() / f"{recipe}.yaml"
    if os.path.isfile(recipe):
        return Path(recipe)
    if "/" in recipe or recipe.endswith((".yaml", ".yml")):
        raise InputError(f"there is no file {recipe}; check the path, or take a name of `compresskit recipes ls`")
    near = difflib.get_close_matches(recipe, names(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names())}; a file ends in .yaml"
    raise UsageError(f"unknown recipe {recipe!r}; {hint}")


def text_of(path: Path) -> str:
    """The text of a recipe's file; InputError where it cannot be read."""
    return read_text(path, "give a recipe", MOST_YAML)
