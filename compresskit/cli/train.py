"""`compresskit train`: fine-tune the whole model."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import Architecture, PlanFlag, launch, with_architecture
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.distillation import Distillation
from compresskit.models.defaults import shown
from compresskit.training.arguments import TrainingOptions


@with_flags(epochs=shown("epochs"), lr=shown("lr"), teacher_epochs=shown("epochs"), teacher_lr=shown("lr"))
def train(
    options: TrainingOptions,
    scoring: EvaluatorOptions,
    distillation: Distillation,
    architecture: Architecture,
    plan: PlanFlag = False,
) -> None:
    """Fine-tune the whole model: the baseline of a table, a teacher, or with --distill a dense student of one."""
    from compresskit.methods.job import Job, TrainConfig
    from compresskit.recipe.work import Work

    options = with_architecture(options, architecture)
    launch(Work(Job("train", options, TrainConfig(), distillation), scoring), plan=plan)
