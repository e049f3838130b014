"""What the training verbs derive from their flags: defaults that depend on the model, and the scoring of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.data import DEFAULT_DATA
from compresskit.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from compresskit.models.architecture import Architecture
    from compresskit.training.options import Score, TrainingOptions
    from compresskit.training.plan import Plan

BUILT_IN_PREFIX = "demo/"
# The built-in models start from random weights, and their data set is large enough to be seen once.
BUILT_IN_LR, BUILT_IN_EPOCHS = 2e-3, 1.0
LR, EPOCHS = 5e-5, 3.0


def is_built_in(model: str) -> bool:
    """Whether MODEL is one of the built-in ones, which read the built-in data."""
    return model.startswith(BUILT_IN_PREFIX)


def train_data(model: str, given: str | None) -> str:
    """The training data: as given, else the demo set for a built-in model and SQuAD 2.0 for any other."""
    return given or ("demo" if is_built_in(model) else DEFAULT_DATA)


def fine_tuning(model: str, built: Architecture | None, lr: float | None, epochs: float | None) -> tuple[float, float]:
    """Learning rate and epochs of a training: as given, else by the kind of model."""
    default_lr, default_epochs = (BUILT_IN_LR, BUILT_IN_EPOCHS) if is_built_in(model) else (LR, EPOCHS)
    if built is not None:
        default_lr, default_epochs = built.lr, built.epochs
    return default_lr if lr is None else lr, default_epochs if epochs is None else epochs


def training_options(given: Mapping[str, Any], **derived: Any) -> TrainingOptions:
    """The options of a run from a verb's flags, which bear the names of the options' fields; `derived` replace them."""
    from compresskit.training.options import TrainingOptions

    names = {field.name for field in fields(TrainingOptions)}
    taken = {name: value for name, value in given.items() if name in names and value is not None}
    return TrainingOptions(**{**taken, "train_data": train_data(given["model"], given["train_data"]), **derived})


def refuse_unused(flags: Mapping[str, object], why: str) -> None:
    """UsageError for the first of `flags` that was given although it has no effect here."""
    for name, value in flags.items():
        if value is not None:
            raise UsageError(f"{name} has no effect {why}; leave it out")


def scorer(data: str | None, *, device: str, max_length: int, stride: int) -> Score | None:
    """A function that scores a finished checkpoint on `data` in a process of its own; None without data.

    The data is read at once: a fault of it must not come to light after hours of training.
    """
    if data is None:
        return None
    from compresskit.data.load import load

    load(data, "eval")

    def score(folder: Path) -> Mapping[str, float | None]:
        from compresskit.evaluate.evaluate import evaluate
        from compresskit.evaluate.settings import EvalSettings

        settings = EvalSettings(device=device, max_length=max_length, stride=stride, latency_questions=0)
        row = evaluate([str(folder)], data, settings, names=["scoring"]).rows[0]
        if row.error is not None:
            raise RunFailed(row.error)
        names = ("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "best_em")
        return {name: getattr(row, name) for name in names}

    return score


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
            f"memory       about {plan.memory_bytes / 1e9:.2f} GB on {plan.device} in {plan.dtype}",
            *plan.notes,
        ]
        console.out("\n".join(lines))


def show_score(output: Path) -> None:
    """Print where a finished checkpoint lies, and its figures where it was scored."""
    from compresskit import console
    from compresskit.checkpoint.manifest import read_manifest

    manifest = read_manifest(output)
    metrics = manifest.steps[-1].metrics if manifest is not None else {}
    figures = [
        f"{name} {metrics[key]:.2f}" for name, key in (("EM", "em"), ("F1", "f1")) if metrics.get(key) is not None
    ]
    console.info(f"{output} is ready" + (f": {', '.join(figures)}" if figures else ""))
