"""What a run of a recipe would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from compresskit.checkpoint.manifest import FILE
from compresskit.errors import CompresskitError
from compresskit.evaluate.refs import with_baseline
from compresskit.methods.distillation import Distillation
from compresskit.models.architecture import ARCHITECTURES
from compresskit.options import options_of
from compresskit.recipe.evaluation import Evaluation
from compresskit.recipe.recipe import Checkpoint, Recipe
from compresskit.recipe.run import check_places, step_named, work_of_step
from compresskit.recipe.state import State, Workplace
from compresskit.text import counted
from compresskit.training.plan import Plan

_TOLD = {"keep": "kept", "resume": "resumed", "run": "run"}


def plan(recipe: Recipe, folder: Path) -> list[str]:
    """The lines that tell what would be made, kept and measured; each step's own plan below it.

    Raises what the run of a step would raise before it computes.
    """
    place, evaluation = Workplace(recipe, folder), Evaluation(recipe, folder)
    check_places(place)
    evaluation.check()
    width = max(len(name) for name in ("eval", *(each.name for each in recipe.checkpoints)))
    lines = []
    for checkpoint, state in place.states():
        why = f" ({state.why})" if state.why else ""
        what = f"{checkpoint.verb.name} of {checkpoint.base}"
        lines.append(f"{checkpoint.name:{width}}  {_TOLD[state.action]:7}  {what}{why}")
        if state.action != "keep":
            lines += [f"{'':{width}}  {line}" for line in _own(place, checkpoint, state)]
    return [*lines, _measured(evaluation, width)]


def _own(place: Workplace, checkpoint: Checkpoint, state: State) -> Iterator[str]:
    """Yield the lines of a step's own plan; what is yet to be made is planned by what stands in for it."""
    unmade = [name for name in place.inputs(checkpoint) if not _is_made(place, name)]
    base = _stand_in(place, checkpoint.base)
    if base is None:
        yield f"planned in full once {checkpoint.base} is there"
        return
    if checkpoint.values.get("teacher") in unmade:
        kept = {name: value for name, value in checkpoint.values.items() if name not in options_of(Distillation)}
        checkpoint = replace(checkpoint, values=kept)
    try:
        with step_named(checkpoint):
            yield from _planned(place, checkpoint, state, base)
    except CompresskitError:
        if not unmade:
            raise
        yield f"planned in full once {unmade[0]} is there"


def _planned(place: Workplace, checkpoint: Checkpoint, state: State, base: str) -> list[str]:
    """The plan of a step that starts from `base`."""
    more: dict[str, Any] = {"overwrite": state.replaces, "model": base}
    if checkpoint.verb.trains:
        return list(map(outlined, work_of_step(place, checkpoint, **more, resume=state.action == "resume").plans()))
    if checkpoint.verb.name != "quantize":
        return []
    outline = work_of_step(place, checkpoint, **more).outline()
    return [f"{outline.parameters:,} parameters, about {outline.checkpoint_bytes:,} bytes of weights"]


def _is_made(place: Workplace, name: str) -> bool:
    return (place.of(name) / FILE).is_file()


def _stand_in(place: Workplace, name: str) -> str | None:
    """A checkpoint that is there, or what it will be fine-tuned from, which has its shape; None for any other.

    What is no checkpoint of the recipe is there already.
    """
    own = next((each for each in place.recipe.checkpoints if each.name == name), None)
    if own is None or _is_made(place, name):
        return place.ref(name)
    if own.verb.name != "train" or own.base in ARCHITECTURES:
        return None
    return _stand_in(place, own.base)


def outlined(plan: Plan) -> str:
    """A plan of a training in one line."""
    steps = f"{plan.steps:,} steps on {plan.questions:,} questions"
    learns = f"{plan.trainable:,} of {plan.parameters:,} parameters learn"
    return f"{steps}; {learns}; about {plan.memory.peak / 1e9:.2f} GB on {plan.device} in {plan.dtype}"


def _measured(evaluation: Evaluation, width: int) -> str:
    config = evaluation.settled
    if config is None:
        return f"{'eval':{width}}  nothing is measured: the recipe has no block eval"
    options = config.options
    told = [f"{counted(len(with_baseline(options.measured, None)), 'checkpoint')} on {options.data}"]
    told += [f"rows of several runs: {', '.join(each.name for each in options.means)}"] if options.means else []
    told += [f"blind set {options.blind}"] if options.blind is not None else []
    told += [f"baseline {options.baseline}"] if options.baseline is not None else []
    told += [f"gates: {', '.join(config.gating.gates)}"] if config.gating.gates else []
    return f"{'eval':{width}}  {'; '.join(told)}"
