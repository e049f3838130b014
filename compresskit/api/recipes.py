"""`run_recipe`: checkpoints made as a recipe says, and measured."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.api.checkpoint import Checkpoint
from compresskit.api.report import Report
from compresskit.api.surroundings import as_found
from compresskit.errors import RunFailed, UsageError


@dataclass(frozen=True, slots=True)
class RecipeRun:
    """What a run of a recipe left in `folder`: its checkpoints by name, and the report where it measures them."""

    folder: Path
    checkpoints: Mapping[str, Checkpoint]
    report: Report | None


def run_recipe(
    recipe: str | os.PathLike[str],
    changes: Mapping[str, Any] | Iterable[str] = (),
    *,
    output: str | os.PathLike[str] | None = None,
    seeds: int | None = None,
    jobs: int = 1,
) -> RecipeRun:
    """Run a recipe: make what is not there yet, keep what is unchanged, measure. A gate that fails raises nothing.

    `recipe` is a name of `compresskit recipes ls` or a file of YAML; `changes` are as those of `--set`, by key
    (`{"half.max-steps": 10}`) or as texts; `output` is the folder, `runs/<recipe>` by default. The files that its block
    `eval` names are written. With `seeds`, each step that trains is made so many times. With several `jobs`, so many
    processes make steps that do not wait for each other.

    Raises what the functions of its steps raise, InputError for a broken recipe, UsageError where something is in the
    way, `jobs` is below 1, or `seeds` below 2.

    Example:
        >>> ck.run_recipe("demo", {"max-steps": 20}, output="runs/demo").report.check()
    """
    from compresskit.evaluate.config import EvalConfig
    from compresskit.evaluate.gate import Rule
    from compresskit.evaluate.verdict import measured
    from compresskit.recipe.recipe import read_recipe
    from compresskit.recipe.run import run_recipe as run
    from compresskit.recipe.shipped import find

    reports: list[Report] = []

    def keep(config: EvalConfig, rules: Sequence[Rule]) -> None:
        report = measured(config, rules)
        reports.append(Report(report, shown=config.delivery.slices))
        if failed := config.delivery.write(report):
            raise RunFailed("; ".join(failed))

    if jobs < 1:
        raise UsageError(f"jobs {jobs} is not at least 1")
    texts = [_change(*each) for each in changes.items()] if isinstance(changes, Mapping) else list(changes)
    with as_found(computes=True):
        known = read_recipe(find(os.fspath(recipe)), texts, seeds)
        folder = Path("runs") / known.name if output is None else Path(output)
        run(known, folder, judge=keep, jobs=jobs)
        made = {each.name: Checkpoint(folder / each.name) for each in known.checkpoints}
    return RecipeRun(folder, made, reports[0] if reports else None)


def _change(key: str, value: object) -> str:
    """A change as the command line takes it: what is JSON is YAML too."""
    return f"{key}={json.dumps(value, default=os.fspath)}"
