"""`train`: fine-tune the whole model. The result is the baseline of a table, a teacher, or a student of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compresskit.checkpoint.manifest import KindName
from compresskit.methods.job import Job, TrainConfig, default_output
from compresskit.methods.method import Attached, Footprint
from compresskit.models.defaults import TrainingDefaults
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.source import Source
from compresskit.options import refuse
from compresskit.training.arguments import TrainingOptions
from compresskit.training.optimizers import ParameterGroup
from compresskit.training.plan import WEIGHT


class TrainMethod:
    """All weights learn."""

    name = "train"
    Config = TrainConfig
    accepts: frozenset[KindName] = frozenset({"full", "mask"})
    trains = True
    defaults: TrainingDefaults | None = None

    def leaves(self, config: TrainConfig) -> KindName:
        """A plain checkpoint."""
        return "full"

    def title(self, config: TrainConfig) -> str:
        """There is one way to fine-tune."""
        return self.name

    def output(self, job: Job) -> Path:
        """`runs/<model>-train`, or `runs/<model>-train-distill` with a teacher."""
        return default_output(job.options.model, "train-distill" if job.distillation.distill else "train")

    def check(self, job: Job) -> None:
        """A teacher takes part in the loss alone."""
        if not job.distillation.distill:
            refuse(job.distillation, ("teacher",), "without --distill")

    def prepare_base(self, source: Source, teacher: Source | None) -> Source:
        """The checkpoint that was asked for, whatever its teacher."""
        return source

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """Every model that opens can be trained."""

    def prepare(self, asked: Job, loaded: TrainableModel, teacher: LoadedModel | None) -> Mapping[str, Any]:
        """Nothing to prepare."""
        return {}

    def attach(self, loaded: TrainableModel, config: TrainConfig, dtype: torch.dtype) -> Attached:
        """The whole model learns."""
        return WholeModel(loaded)


class WholeModel(Attached):
    """A model whose weights all learn, but those that its family freezes."""

    def __init__(self, loaded: TrainableModel) -> None:
        self.model = loaded.model

    def groups(self, options: TrainingOptions) -> list[ParameterGroup]:
        """All that learns, at the options' learning rate."""
        return weight_groups((p for p in self.model.parameters() if p.requires_grad), options)

    def footprint(self, number: int) -> Footprint:
        """The checkpoint holds every weight in fp32."""
        return Footprint(0, WEIGHT * sum(parameter.numel() for parameter in self.model.parameters()))

    def save(self, folder: Path) -> None:
        """A plain checkpoint that `from_pretrained` opens."""
        self.model.save_pretrained(folder)


def weight_groups(learning: Iterable[nn.Parameter], options: TrainingOptions) -> list[ParameterGroup]:
    """AdamW groups of parameters: no weight decay on biases and norms (vectors), as is the custom."""
    parameters = list(learning)
    matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups: list[ParameterGroup] = [
        {"params": matrices, "lr": options.peak_lr, "weight_decay": options.weight_decay},
        {"params": vectors, "lr": options.peak_lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
