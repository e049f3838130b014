"""`compresskit prune`: learn which weights may go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from compresskit.cli import options as flags
from compresskit.cli.architecture import chosen, with_architecture
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
MaskEmbeddings = Annotated[
    bool, typer.Option("--mask-embeddings", help="Mask the words' embeddings too.", rich_help_panel=PRUNING)
]
ScoreLr = Annotated[
    float | None,
    typer.Option(
        metavar="RATE", help="Peak learning rate of the scores.", show_default="0.02", rich_help_panel=PRUNING
    ),
]
Penalty = Annotated[
    float | None,
    typer.Option(
        metavar="L",
        help="Weight of the mean sigmoid of the scores in the loss.",
        show_default="400",
        rich_help_panel=PRUNING,
    ),
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
        help="A fine-tuned checkpoint, of another tokenizer if you like; the head of a like one is used.",
        show_default="with --distill one is trained first",
        rich_help_panel=DISTILLATION,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="T", help="Softens both distributions.", show_default="2", rich_help_panel=DISTILLATION),
]
DistillWeight = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        help="Weight of the teacher in the loss; the labels get the rest.",
        show_default="0.9",
        rich_help_panel=DISTILLATION,
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


@with_architecture
def prune(
    model: flags.Model,
    architecture: Mapping[str, Any],
    sparsity: Sparsity = 0.5,
    method: Method = "smp",
    block: Block = "1x1",
    mask_embeddings: MaskEmbeddings = False,
    score_lr: ScoreLr = None,
    penalty: Penalty = None,
    warmup: Warmup = 0.0,
    cooldown: Cooldown = 0.2,
    distill: Distill = False,
    teacher: Teacher = None,
    temperature: Temperature = None,
    distill_weight: DistillWeight = None,
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
    given = dict(locals())
    from compresskit.cli import settings
    from compresskit.methods.distill import DistillConfig
    from compresskit.methods.prune import apply as pruning
    from compresskit.methods.prune.config import PruneConfig

    scoring = {"score_lr": score_lr, "penalty": penalty}
    config = PruneConfig(
        method,
        sparsity,
        parse_block(block),
        warmup=warmup,
        cooldown=cooldown,
        embeddings=mask_embeddings,
        **_given(scoring),
    )
    if not config.learns_scores:
        settings.refuse_unused({"--score-lr": score_lr}, f"with --method {method}, which has no scores")
    if not config.regularized:
        settings.refuse_unused({"--penalty": penalty}, f"with --method {method}, which has no penalty")
    output = output or flags.default_output(model, f"{method}-{sparsity:g}{'-distill' if distill else ''}")
    built = chosen(model, architecture)
    options = settings.training_options(given, output=output, architecture=built)
    trained = distill and teacher is None
    if not trained:
        why = "where no teacher is trained first (that takes --distill without --teacher)"
        settings.refuse_unused({"--teacher-epochs": teacher_epochs, "--teacher-lr": teacher_lr}, why)
    softening = {"temperature": temperature, "weight": distill_weight}
    if not distill:
        named = {"--temperature": temperature, "--distill-weight": distill_weight}
        settings.refuse_unused(named, "without --distill")
    teacher_options = None
    if trained:
        teacher_lr, teacher_epochs = settings.fine_tuning(model, built, teacher_lr, teacher_epochs)
        teacher_output = Path(f"{output}-teacher")
        teacher_options = replace(options, output=teacher_output, lr=teacher_lr, epochs=teacher_epochs)
    teaching = pruning.Teaching(DistillConfig(**_given(softening)) if distill else None, teacher, teacher_options)
    if plan:
        settings.show_plans(pruning.plan(options, config, teaching))
        return
    score = settings.scorer(eval_data, device=device, max_length=max_length, stride=stride)
    settings.show_score(pruning.apply(options, config, teaching, score))


def _given(values: Mapping[str, float | None]) -> dict[str, Any]:
    """The values that were given; the configuration knows the defaults of the others."""
    return {name: value for name, value in values.items() if value is not None}


def parse_block(text: str) -> tuple[int, int]:
    """`32x32` as (32, 32); UsageError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UsageError(f"--block {text!r} is not a shape; give ROWSxCOLUMNS, such as 32x32")
    return int(match[1]), int(match[2])
