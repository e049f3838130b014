"""`compresskit prune`: learn which weights may go."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import Architecture, PlanFlag, launch, with_architecture
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.distillation import Distillation
from compresskit.methods.prune.config import DEFAULTS, PruneConfig
from compresskit.models.defaults import number, shown
from compresskit.training.arguments import TrainingOptions


@with_flags(
    epochs=number(DEFAULTS.epochs), lr=number(DEFAULTS.lr), teacher_epochs=shown("epochs"), teacher_lr=shown("lr")
)
def prune(
    options: TrainingOptions,
    scoring: EvaluatorOptions,
    config: PruneConfig,
    distillation: Distillation,
    architecture: Architecture,
    plan: PlanFlag = False,
) -> None:
    """Learn which weights may go; the result is a mask on the base, a fraction of its size."""
    from compresskit.methods.job import Job
    from compresskit.recipe.work import Work

    options = with_architecture(options, architecture)
    launch(Work(Job("prune", options, config, distillation), scoring), plan=plan)
