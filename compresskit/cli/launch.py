"""What the verbs of methods share: a job is planned or run, and its result shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compresskit.cli.flags import Settings
from compresskit.models.architecture import ARCHITECTURES, chosen
from compresskit.options import OUTPUT
from compresskit.training.arguments import TrainingOptions

if TYPE_CHECKING:
    from compresskit.recipe.work import Work
    from compresskit.training.memory import Memory
    from compresskit.training.plan import Plan

# The settings given of a model that is built from its training data.
Architecture = Annotated[
    dict[str, Any],
    Settings(tuple(ARCHITECTURES.values()), f"A model that is built ({', '.join(ARCHITECTURES)})"),
]
# The figures of a finished checkpoint, and how they are told.
_FINAL = {
    "train_loss": "mean loss {:.4g}",
    "train_penalty": "mean penalty {:.4g}",
    "sparsity": "{:.2f} % removed",
    "em": "EM {:.2f}",
    "f1": "F1 {:.2f}",
}
PlanFlag = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Print what it would do: parameters, bytes, and where it trains memory and steps; write nothing.",
        rich_help_panel=OUTPUT,
    ),
]


def with_architecture(options: TrainingOptions, architecture: Mapping[str, Any]) -> TrainingOptions:
    """The options with what their model is built from, where it is built.

    Raises UsageError for settings without effect.
    """
    return replace(options, architecture=chosen(options.model, architecture))


def launch(work: Work, *, plan: bool) -> None:
    """Do work that trains, or print its plan."""
    from compresskit.training.session import end_processes

    if plan:
        show_plans(work.plans())
    else:
        show_result(work.run())
        end_processes()


def convert(work: Work, *, plan: bool = False) -> None:
    """Do work that learns nothing, or print its plan."""
    from compresskit import console

    if not plan:
        show_result(work.run())
        return
    outline = work.outline()
    lines = [
        f"parameters   {outline.parameters:,}",
        f"checkpoint   about {outline.checkpoint_bytes:,} bytes of weights",
        f"writes {outline.target}: {outline.summary}",
    ]
    console.out("\n".join(lines))


def show_plans(plans: Sequence[Plan]) -> None:
    """Print what each run of a plan would do."""
    from compresskit import console

    for number, plan in enumerate(plans, start=1):
        lines = [f"run {number} of {len(plans)}"] if len(plans) > 1 else []
        lines += [
            f"parameters   {plan.parameters:,}, of which {plan.trainable:,} learn (scores of masks included)",
            f"checkpoint   about {plan.checkpoint_bytes:,} bytes of weights",
            f"data         {plan.questions:,} questions, about {plan.windows:,} windows",
            f"steps        {plan.steps:,}",
            f"memory       about {plan.memory.peak / 1e9:.2f} GB on {plan.device} in {plan.dtype}",
            f"  of which   {_parts(plan.memory)}",
            *plan.notes,
        ]
        console.out("\n".join(lines))


def _parts(memory: Memory) -> str:
    """The parts of a plan's memory that are not nothing, in GB."""
    names = ("libraries", "weights", "optimizer", "method", "activations", "logits", "gradients")
    told = [f"{name} {getattr(memory, name) / 1e9:.2f}" for name in names if getattr(memory, name)]
    together = memory.activations + memory.logits + memory.gradients
    return ", ".join(told) + ("; not all at once" if memory.passing < together else "")


def show_result(output: Path) -> None:
    """Print where a finished checkpoint lies, and its figures where it was scored."""
    from compresskit import console
    from compresskit.checkpoint.manifest import read_manifest

    manifest = read_manifest(output)
    metrics = manifest.steps[-1].metrics if manifest is not None else {}
    figures = [words.format(metrics[key]) for key, words in _FINAL.items() if metrics.get(key) is not None]
    console.info(f"{output} is ready" + (f": {', '.join(figures)}" if figures else ""))
