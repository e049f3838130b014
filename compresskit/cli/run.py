"""`compresskit run`: make what a recipe says, measure it, and judge."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from compresskit.cli.flags import with_flags
from compresskit.options import MACHINE, OUTPUT, check, option


@dataclass(frozen=True, slots=True)
class RunRecipe:
    """Which recipe is run, with which changes, and where its checkpoints go."""

    recipe: str = option(MISSING, "A recipe of `recipes ls`, or a file of YAML.", metavar="RECIPE", argument=True)
    changes: tuple[str, ...] = option(
        (),
        "Change the recipe: STEP.KEY=VALUE, eval.KEY=VALUE, or KEY=VALUE for every step that takes it; base=MODEL for "
        "every step that starts from a MODEL; KEY=null takes it away. May be repeated.",
        flag="--set",
        metavar="KEY=VALUE",
    )
    seeds: int | None = option(
        None,
        "Make every step that trains N times, each with another seed, and tell mean and spread.",
        metavar="N",
        least=2,
        most=100,
    )
    output: Path | None = option(
        None, "Folder for the checkpoints and the report.", short="-o", metavar="DIR", shown="runs/RECIPE", panel=OUTPUT
    )
    jobs: int = option(
        1,
        "Make up to N checkpoints side by side, where none waits for another; each has its share of the CPU's threads.",
        metavar="N",
        least=1,
        panel=MACHINE,
    )
    plan: bool = option(
        False, "Print what would run, be resumed or kept, and each step's own plan; write nothing.", panel=OUTPUT
    )

    def __post_init__(self) -> None:
        check(self)


@with_flags()
def run(options: RunRecipe) -> None:
    """Run a recipe: make what is not there yet, keep what is unchanged, then print table and verdict."""
    from compresskit.recipe.recipe import read_recipe
    from compresskit.recipe.shipped import find

    recipe = read_recipe(find(options.recipe), options.changes, options.seeds)
    folder = options.output or Path("runs") / recipe.name
    if options.plan:
        from compresskit import console
        from compresskit.recipe.plan import plan

        console.out("\n".join(plan(recipe, folder)))
        return
    from compresskit.recipe.run import run_recipe

    run_recipe(recipe, folder, jobs=options.jobs)
