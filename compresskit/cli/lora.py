"""`compresskit lora`: adapt a checkpoint by low-rank matrices."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import PlanFlag, launch
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.distillation import Distillation
from compresskit.methods.lora.config import DEFAULTS, LoraConfig
from compresskit.models.defaults import number, shown
from compresskit.training.arguments import TrainingOptions


@with_flags(
    epochs=number(DEFAULTS.epochs), lr=number(DEFAULTS.lr), teacher_epochs=shown("epochs"), teacher_lr=shown("lr")
)
def lora(
    options: TrainingOptions,
    scoring: EvaluatorOptions,
    config: LoraConfig,
    distillation: Distillation,
    plan: PlanFlag = False,
) -> None:
    """Train low-rank adapters on a frozen checkpoint; the result is a PEFT folder, a few parts in a thousand of it."""
    from compresskit.methods.job import Job
    from compresskit.recipe.work import Work

    launch(Work(Job("lora", options, config, distillation), scoring), plan=plan)
