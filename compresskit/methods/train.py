"""`train`: fine-tune the whole model. The result is the baseline of a table, and the teacher of a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compresskit import console
from compresskit.models.family import Batch, Family, TrainableModel
from compresskit.models.source import base_of
from compresskit.training.engine import Engine, Objective, ParameterGroup
from compresskit.training.options import Score, TrainingOptions
from compresskit.training.plan import WEIGHT, Plan, make_plan
from compresskit.training.session import claimed, finish, is_complete, load_for_training, prepare, starting_point

METHOD = "train"


def apply(options: TrainingOptions, score: Score | None = None) -> Path:
    """Fine-tune `options.model` on `options.train_data`; the folder of the new checkpoint (kind `full`).

    `score` gives the figures of the finished checkpoint for its manifest. Raises the package's errors for bad input, a
    taken output, and a run that fails.
    """
    if is_complete(options, options.describe()):
        console.info(f"{options.output} is complete already")
        return options.output
    source = starting_point(options)
    with claimed(options, {"method": METHOD, **options.describe()}) as (workspace, work):
        session = prepare(options, source, workspace, work)
        loaded, features = session.loaded, session.features
        metrics = Engine(
            loaded.model,
            features,
            features.lengths,
            loaded.family.collator(loaded.tokenizer),
            regularized(supervised(loaded.family), loaded),
            weight_groups(loaded.model.named_parameters(), options),
            options,
            work,
        ).fit(resume=options.resume)
        finish(
            session,
            method=METHOD,
            config=options.describe(),
            kind="full",
            base=base_of(source, options.output),
            metrics=metrics,
            save=lambda folder: save_full(loaded.model, folder),
            score=score,
        )
    return options.output


def plan(options: TrainingOptions) -> Plan:
    """What `apply` would do, without doing it."""
    loaded = load_for_training(starting_point(options), on_cpu=True)
    count = sum(parameter.numel() for parameter in loaded.model.parameters())
    trainable = sum(parameter.numel() for parameter in loaded.model.parameters() if parameter.requires_grad)
    notes = [f"writes {options.output}"]
    return make_plan(options, loaded, trainable=trainable, checkpoint_bytes=WEIGHT * count, notes=notes)


def supervised(family: Family) -> Objective:
    """The loss of the labels alone."""

    def objective(model: nn.Module, batch: Batch, done: float) -> Tensor:
        return family.loss(family.logits(model, batch), batch)

    return objective


def regularized(objective: Objective, loaded: TrainableModel, apart: Sequence[nn.Parameter] = ()) -> Objective:
    """An objective and the penalty that the model's own configuration asks for.

    It is on the weights that learn by now, but those `apart` (the scores of masks).
    """
    left_out = {id(parameter) for parameter in apart}
    named = loaded.model.named_parameters()
    learning = [(name, p) for name, p in named if p.requires_grad and id(p) not in left_out]

    def penalized(model: nn.Module, batch: Batch, done: float) -> Tensor:
        loss = objective(model, batch, done)
        penalty = loaded.family.penalty(loaded.model.config, learning) if model.training else None
        return loss if penalty is None else loss + penalty

    return penalized


def weight_groups(named: Any, options: TrainingOptions) -> list[ParameterGroup]:
    """AdamW groups of the parameters that learn: no weight decay on biases and norms (vectors), as is the custom."""
    learning = [p for _, p in named if p.requires_grad]
    groups: list[Mapping[str, Any]] = [
        {"params": [p for p in learning if p.ndim > 1], "lr": options.lr, "weight_decay": options.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "lr": options.lr, "weight_decay": 0.0},
    ]
    return [dict(group) for group in groups if group["params"]]


def save_full(model: Any, folder: Path) -> None:
    """Write a plain checkpoint that `from_pretrained` opens."""
    model.save_pretrained(folder)
