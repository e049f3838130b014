"""`compresskit demo`: the recipe `demo`, every family and method on the built-in data, offline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from compresskit.cli.flags import with_flags
from compresskit.cli.run import RunRecipe
from compresskit.options import check, like, option
from compresskit.training.arguments import TrainingOptions

_JOBS = 2


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Where the demo leaves its checkpoints, the seed of all its runs, and how many of them go on at a time."""

    output: Path = option(Path("runs/demo"), "Folder for the checkpoints and the report.", short="-o", metavar="DIR")
    seed: int | None = like(TrainingOptions, "seed", default=None, shown="the recipe's")
    jobs: int | None = like(RunRecipe, "jobs", default=None, shown=f"{_JOBS}; 1 on one core")

    def __post_init__(self) -> None:
        check(self)


@with_flags()
def demo(options: DemoOptions) -> None:
    """Train, prune, quantize, adapt and measure tiny models on built-in data: the whole tool in minutes, offline."""
    from compresskit import console
    from compresskit.evaluate.machine import cpus
    from compresskit.recipe.recipe import read_recipe
    from compresskit.recipe.run import run_recipe
    from compresskit.recipe.shipped import folder

    started, output = time.perf_counter(), options.output
    changes = [] if options.seed is None else [f"seed={options.seed}"]
    recipe = read_recipe(folder() / "demo.yaml", changes)
    run_recipe(recipe, output, jobs=options.jobs or min(_JOBS, cpus()))
    seconds = time.perf_counter() - started
    console.info(f"{output / 'eval.json'} and {output / 'report.html'} hold these figures; all took {seconds:.0f} s")
