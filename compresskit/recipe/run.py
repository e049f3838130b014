"""Run a recipe: make what is not there yet, take up what was interrupted, keep the rest; then measure, and judge."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from compresskit import console
from compresskit.checkpoint.manifest import FILE
from compresskit.checkpoint.outputs import check_apart, check_name, placing
from compresskit.data.load import local_files
from compresskit.errors import CompresskitError, UsageError
from compresskit.evaluate import verdict
from compresskit.evaluate.blind_record import check_not_blind
from compresskit.evaluate.config import EvalConfig
from compresskit.evaluate.gate import Rule
from compresskit.evaluate.verdict import rules_of
from compresskit.recipe.evaluation import Evaluation
from compresskit.recipe.recipe import Checkpoint, Recipe
from compresskit.recipe.state import State, Workplace
from compresskit.recipe.work import Work, work_of
from compresskit.text import counted


def run_recipe(
    recipe: Recipe, folder: Path, judge: Callable[[EvalConfig, Sequence[Rule]], None] = verdict.judge, jobs: int = 1
) -> None:
    """Make the checkpoints of a recipe below `folder`, and measure them as its block `eval` says, by `judge`.

    With several `jobs`, so many processes make what does not wait for each other; it is measured when they have ended.
    Raises what the verbs raise, UsageError where something is in the way, GateFailed where a gate does not hold.
    """
    check_alone()
    place, evaluation = Workplace(recipe, folder), Evaluation(recipe, folder)
    check_places(place)
    evaluation.check()
    for checkpoint in recipe.checkpoints:
        with step_named(checkpoint):
            work_of_step(place, checkpoint).require()
    with placing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if (first := evaluation.config()) is not None:  # what is wrong with it is told before the first step
        first.check_places(Path())
        first.delivery.check_apart([Path(recipe.document.file), *_data_of(recipe)])
        verdict.check_data(first)
        _check_scoring(place)
    if jobs > 1:
        from compresskit.recipe.side_by_side import made_side_by_side

        kept = made_side_by_side(place, jobs)
    else:
        kept = sum(not make(place, each) for each in recipe.checkpoints)
    if kept and kept == len(recipe.checkpoints):
        console.info(f"all {counted(kept, 'checkpoint')} of {recipe.name} are there already")
    if (config := evaluation.config()) is not None:
        config.check_places(Path())
        judge(config, rules_of(config))


def _check_scoring(place: Workplace) -> None:
    """UsageError where a step that is yet to be done would score its result on a blind set, uncounted."""
    for checkpoint in place.recipe.checkpoints:
        known = place.known(checkpoint)
        if known is None or not known.done:
            with step_named(checkpoint):
                check_not_blind(checkpoint.values.get("eval_data"), "--eval-data")


def _data_of(recipe: Recipe) -> list[Path]:
    """The files on this machine that the steps learn from."""
    refs = {each.values["train_data"] for each in recipe.checkpoints if "train_data" in each.values}
    return [path for ref in sorted(refs) for path in local_files(ref)]


def check_alone(verb: str = "run") -> None:
    """UsageError in one of several processes of a launcher: a verb runs steps that are not for all of them."""
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise UsageError(f"{verb} takes one process; without a launcher it uses one GPU, and a verb takes a launcher")


def check_places(place: Workplace) -> None:
    """UsageError where the folder of a recipe cannot be made, or would be in, or over, a MODEL that it starts from.

    UsageError too where anything is in the way of a checkpoint.
    """
    check_name(place.folder)
    models = [Path(each.base) for each in place.recipe.checkpoints if place.ref(each.base) == each.base]
    with placing(place.folder):
        if os.path.lexists(place.folder) and not place.folder.is_dir():
            raise UsageError(f"{place.folder} is not a folder; choose another with -o")
        if (place.folder / FILE).exists():
            raise UsageError(f"{place.folder} is a checkpoint; choose another folder with -o")
    for each in place.recipe.checkpoints:
        check_apart(place.of(each.name), [path for path in models if path.is_dir()])
        with placing(place.folder):
            place.known(each)


def make(place: Workplace, checkpoint: Checkpoint) -> bool:
    """Make a checkpoint whose inputs are there, or go on with it; False where it is kept.

    Its record is written before and after: one that is interrupted is known by it.
    """
    folder, state = place.of(checkpoint.name), place.state(checkpoint)
    if state.action == "keep":
        console.info(f"{folder} is kept: {state.why}")
        return False
    _tell(place, checkpoint, state)
    assert state.record is not None  # all that it is made of is there by now
    state.record.write(folder, done=False)
    more = {"overwrite": state.replaces} | ({"resume": state.action == "resume"} if checkpoint.verb.trains else {})
    with step_named(checkpoint):
        work_of_step(place, checkpoint, **more).run()
    state.record.write(folder, done=True)
    _give_back_memory()
    return True


def _tell(place: Workplace, checkpoint: Checkpoint, state: State) -> None:
    number, total = place.recipe.checkpoints.index(checkpoint) + 1, len(place.recipe.checkpoints)
    verb = "going on with" if state.action == "resume" else "running"
    why = f" ({state.why})" if state.why else ""
    what = f"{checkpoint.verb.name} of {checkpoint.base}, to {place.of(checkpoint.name)}"
    console.info(f"step {number} of {total}: {verb} {what}{why}")


@contextlib.contextmanager
def step_named(checkpoint: Checkpoint) -> Iterator[None]:
    """Tell with an error of the block which step it is of."""
    try:
        yield
    except CompresskitError as error:
        raise type(error)(f"step {checkpoint.name}: {error}") from error


def work_of_step(place: Workplace, checkpoint: Checkpoint, **more: Any) -> Work:
    """What the step of a checkpoint does; the error of the place where a value cannot be."""
    return work_of(checkpoint.verb, checkpoint.values, place.job(checkpoint, **more))


def _give_back_memory() -> None:
    """Leave the GPU's memory to the next step, and to the processes that measure."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
