"""`compresskit prune`: learn which weights may go."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from compresskit.cli import options as flags
from compresskit.errors import UsageError

PRUNING, DISTILLATION = "Pruning", "Distillation"

Sparsity = Annotated[
    float,
    typer.Option(metavar="S", help="Fraction of the maskable weights to remove, in [0, 1).", rich_help_panel=PRUNING),
]
Method = Annotated[
    Literal["smp", "smp-l", "movement", "soft-movement", "magnitude"],
    typer.Option(
        help="smp: weights frozen, scores learn, budget shared by importance; smp-l: the same fraction of each matrix; "
        "movement, soft-movement: weights and scores learn; magnitude: the smallest weights go.",
        rich_help_panel=PRUNING,
    ),
]
Block = Annotated[
    str, typer.Option(metavar="RxC", help="Rows and columns that one score covers.", rich_help_panel=PRUNING)
]
ScoreLr = Annotated[
    float, typer.Option(metavar="RATE", help="Peak learning rate of the scores.", rich_help_panel=PRUNING)
]
Penalty = Annotated[
    float,
    typer.Option(metavar="L", help="Weight of the mean sigmoid of the scores in the loss.", rich_help_panel=PRUNING),
]
Warmup = Annotated[
    float,
    typer.Option(metavar="F", help="Fraction of the steps before the first weight goes.", rich_help_panel=PRUNING),
]
Cooldown = Annotated[
    float, typer.Option(metavar="F", help="Fraction of the steps at the final sparsity.", rich_help_panel=PRUNING)
]
Distill = Annotated[
    bool, typer.Option("--distill", help="Learn from a teacher's logits too.", rich_help_panel=DISTILLATION)
]
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="CKPT",
        help="A fine-tuned checkpoint of the same tokenizer; its head is used. "
        "[default: with --distill one is trained first]",
        rich_help_panel=DISTILLATION,
    ),
]
Temperature = Annotated[
    float, typer.Option(metavar="T", help="Softens both distributions.", rich_help_panel=DISTILLATION)
]
DistillWeight = Annotated[
    float,
    typer.Option(
        metavar="W", help="Weight of the teacher in the loss; the labels get the rest.", rich_help_panel=DISTILLATION
    ),
]
TeacherEpochs = Annotated[
    float | None,
    typer.Option(metavar="N", help="Epochs of a teacher that is trained first.", rich_help_panel=DISTILLATION),
]
TeacherLr = Annotated[
    float | None,
    typer.Option(
        metavar="RATE", help="Learning rate of a teacher that is trained first.", rich_help_panel=DISTILLATION
    ),
]

PruneEpochs = Annotated[
    float, typer.Option("--epochs", metavar="N", help="Passes over the training data.", rich_help_panel=flags.TRAINING)
]
WeightLr = Annotated[
    float,
    typer.Option(
        "--lr",
        metavar="RATE",
        help="Peak learning rate of weights and head, where those learn too.",
        rich_help_panel=flags.TRAINING,
    ),
]


def prune(
    model: flags.Model,
    sparsity: Sparsity = 0.5,
    method: Method = "smp",
    block: Block = "1x1",
    score_lr: ScoreLr = 2e-2,
    penalty: Penalty = 400.0,
    warmup: Warmup = 0.0,
    cooldown: Cooldown = 0.2,
    distill: Distill = False,
    teacher: Teacher = None,
    temperature: Temperature = 2.0,
    distill_weight: DistillWeight = 0.9,
    teacher_epochs: TeacherEpochs = None,
    teacher_lr: TeacherLr = None,
    output: flags.Output = None,
    train_data: flags.TrainData = None,
    eval_data: flags.EvalData = None,
    epochs: PruneEpochs = 10.0,
    max_steps: flags.MaxSteps = None,
    max_train_samples: flags.MaxTrainSamples = None,
    negatives: flags.Negatives = 0.0,
    batch_size: flags.BatchSize = 32,
    accumulate: flags.Accumulate = 1,
    lr: WeightLr = 3e-5,
    max_length: flags.MaxLength = flags.DEFAULT_MAX_LENGTH,
    stride: flags.Stride = flags.DEFAULT_STRIDE,
    seed: flags.Seed = 42,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    save_steps: flags.SaveSteps = 500,
    resume: flags.Resume = False,
    overwrite: flags.Overwrite = False,
    plan: flags.Plan = False,
) -> None:
    """Learn which weights may go; the result is a mask on the base, a fraction of its size."""
    from compresskit.cli import settings
    from compresskit.methods.distill import DistillConfig
    from compresskit.methods.prune import apply as pruning
    from compresskit.methods.prune.config import PruneConfig
    from compresskit.training.options import TrainingOptions

    config = PruneConfig(
        method=method,
        sparsity=sparsity,
        block=parse_block(block),
        score_lr=score_lr,
        penalty=penalty,
        warmup=warmup,
        cooldown=cooldown,
    )
    output = output or flags.default_output(model, f"{method}-{sparsity:g}{'-distill' if distill else ''}")
    options = TrainingOptions(
        model=model,
        output=output,
        train_data=settings.train_data(model, train_data),
        max_train_samples=max_train_samples,
        negatives=negatives,
        epochs=epochs,
        max_steps=max_steps or 0,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        max_length=max_length,
        stride=stride,
        seed=seed,
        device=device,
        dtype=dtype,
        save_steps=save_steps,
        resume=resume,
        overwrite=overwrite,
    )
    teacher_options = None
    if distill and teacher is None:
        teacher_lr, teacher_epochs = settings.fine_tuning(model, teacher_lr, teacher_epochs)
        teacher_output = Path(f"{output}-teacher")
        teacher_options = replace(options, output=teacher_output, lr=teacher_lr, epochs=teacher_epochs, overwrite=False)
    teaching = pruning.Teaching(
        DistillConfig(temperature, distill_weight) if distill else None, teacher, teacher_options
    )
    if plan:
        settings.show_plans(pruning.plan(options, config, teaching))
        return
    score = settings.scorer(eval_data, device=device, max_length=max_length, stride=stride)
    settings.show_score(pruning.apply(options, config, teaching, score))


def parse_block(text: str) -> tuple[int, int]:
    """`32x32` as (32, 32); UsageError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UsageError(f"--block {text!r} is not a shape; give ROWSxCOLUMNS, such as 32x32")
    return int(match[1]), int(match[2])
