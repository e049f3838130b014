"""`compresskit recipes`: the recipes that come along, shown, copied and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from compresskit.cli.flags import with_flags
from compresskit.cli.run import RunRecipe
from compresskit.options import check, like, option

recipes = typer.Typer(name="recipes", help="List, show, copy or check recipes, which run makes checkpoints of.")


@dataclass(frozen=True, slots=True)
class Shown:
    """Which recipe is shown."""

    recipe: str = like(RunRecipe, "recipe")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class Copied:
    """Which recipe is copied, and to which file."""

    recipe: str = like(RunRecipe, "recipe")
    target: Path | None = option(None, "The file to write.", metavar="FILE", shown="RECIPE.yaml", argument=True)
    overwrite: bool = option(False, "Replace the file.")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class Checked:
    """Which recipe is checked, with which changes."""

    recipe: str = like(RunRecipe, "recipe")
    changes: tuple[str, ...] = like(RunRecipe, "changes")
    seeds: int | None = like(RunRecipe, "seeds")

    def __post_init__(self) -> None:
        check(self)


@recipes.command()
def ls() -> None:
    """List the recipes by name."""
    from compresskit import console
    from compresskit.recipe.document import read_document
    from compresskit.recipe.shipped import find, names

    width = max(map(len, names()), default=0)
    console.out("\n".join(f"{name:{width}}  {read_document(find(name)).about}" for name in names()))


@recipes.command()
@with_flags()
def show(options: Shown) -> None:
    """Print a recipe."""
    from compresskit import console
    from compresskit.recipe.shipped import find, text_of

    console.out(text_of(find(options.recipe)).rstrip("\n"))


@recipes.command()
@with_flags()
def cp(options: Copied) -> None:
    """Copy a recipe, to change it."""
    from compresskit import console
    from compresskit.checkpoint.outputs import check_file
    from compresskit.checkpoint.store import write_text
    from compresskit.errors import UsageError
    from compresskit.recipe.shipped import find, text_of

    source = find(options.recipe)
    target = options.target or Path(source.name)
    check_file(target, [source], flag="FILE")
    if target.exists() and not options.overwrite:
        raise UsageError(f"{target} is there already; pass --overwrite, or name another file")
    write_text(target, text_of(source))
    console.info(f"{target} is ready; change it, and `compresskit run {target}`")


@recipes.command()
@with_flags()
def validate(options: Checked) -> None:
    """Check a recipe, and tell what it would make; nothing is loaded."""
    from compresskit import console
    from compresskit.recipe.evaluation import Evaluation
    from compresskit.recipe.recipe import read_recipe
    from compresskit.recipe.shipped import find

    recipe = read_recipe(find(options.recipe), options.changes, options.seeds)
    Evaluation(recipe, Path("runs") / recipe.name).check()
    console.out(f"{options.recipe} is valid, and makes {', '.join(each.name for each in recipe.checkpoints)}")


@recipes.command()
def schema() -> None:
    """Print the JSON Schema of recipes, by which editors complete the keys."""
    from compresskit import console
    from compresskit.recipe.schema import schema as made
    from compresskit.text import to_json

    console.out(to_json(made(), indent=2))
