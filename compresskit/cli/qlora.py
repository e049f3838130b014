"""`compresskit qlora`: quantize a checkpoint, and adapt it by low-rank matrices."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import PlanFlag, launch
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.distillation import Distillation
from compresskit.methods.lora.config import DEFAULTS, LoraConfig
from compresskit.methods.quantize.config import QloraConfig
from compresskit.models.defaults import number, shown
from compresskit.training.arguments import TrainingOptions


@with_flags(
    epochs=number(DEFAULTS.epochs), lr=number(DEFAULTS.lr), teacher_epochs=shown("epochs"), teacher_lr=shown("lr")
)
def qlora(
    options: TrainingOptions,
    scoring: EvaluatorOptions,
    packing: QloraConfig,
    config: LoraConfig,
    distillation: Distillation,
    plan: PlanFlag = False,
) -> None:
    """Pack a checkpoint in 4 or 8 bits (into DIR-base, once), and train low-rank adapters on it (into DIR)."""
    from compresskit.methods.job import Job
    from compresskit.recipe.work import Work

    launch(Work(Job("lora", options, config, distillation), scoring, packing.bits), plan=plan)
