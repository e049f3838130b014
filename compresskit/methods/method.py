"""What a method is: it takes a checkpoint, changes its weights, and leaves another.

A method is a folder or a file here, and one line in `registry.py`. `run.py` is the choreography of all of them; a
method says only what is its own.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compresskit.checkpoint.manifest import Data, KindName
from compresskit.methods.job import Job
from compresskit.models.defaults import TrainingDefaults

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from compresskit.models.loaded import LoadedModel, TrainableModel
    from compresskit.models.source import Source
    from compresskit.training.arguments import TrainingOptions
    from compresskit.training.optimizers import ParameterGroup


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: what a method keeps in memory from step to step beside what learns, and what its checkpoint holds."""

    memory: int
    checkpoint: int


class Attached(ABC):
    """A method at work on a model in memory. What is not overridden does nothing.

    `data` is what a method that learns nothing has looked at all the same, and `seed` by which it was drawn.
    """

    data: Data | None = None
    seed = 0

    def groups(self, options: TrainingOptions) -> list[ParameterGroup]:
        """The optimizer's parameter groups; all else is frozen."""
        return []

    def added(self) -> Sequence[nn.Parameter]:
        """Parameters that learn and are the method's own, not weights of the model (scores of masks, adapters)."""
        return ()

    def step(self, done: float) -> Tensor | None:
        """Before each forward pass of training, at the fraction `done` of the steps: an addition to the loss."""
        return None

    def comparable(self, done: float) -> bool:
        """Whether what there is after a step, at the fraction `done` of the steps, could be the result."""
        return True

    def as_finished(self) -> AbstractContextManager[None]:
        """Within it the model answers as the finished checkpoint would."""
        return contextlib.nullcontext()

    def fields(self) -> Mapping[str, float]:
        """Figures of the last step for the progress bar and the log."""
        return {}

    def choices(self, options: TrainingOptions) -> Mapping[str, str]:
        """What it decides by itself, in words, for the log and the manifest."""
        return {}

    def footprint(self, number: int) -> Footprint:
        """What it needs, where the computation's numbers have `number` bytes."""
        return Footprint(0, 0)

    def summary(self) -> str:
        """What it will leave, in words, for the plan."""
        return ""

    def finish(self) -> Mapping[str, Any]:
        """After the last step: put the model into its final form; figures for the manifest."""
        return {}

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights and the configuration of the new checkpoint."""

    def problem(self, folder: Path) -> str | None:
        """What is wrong with a checkpoint that is whole but for its name, where a method learns nothing."""
        return None


class Conversion:
    """What methods share that learn nothing: they open a checkpoint, change it, and write another."""

    trains = False
    defaults: TrainingDefaults | None = None

    def check(self, job: Job) -> None:
        """There is no option that could have no effect."""

    def prepare_base(self, source: Source, teacher: Source | None) -> Source:
        """The checkpoint that was asked for."""
        return source

    def prepare(self, asked: Job, loaded: TrainableModel, teacher: LoadedModel | None) -> Mapping[str, Any]:
        """Nothing to prepare."""
        return {}


class Method(Protocol):
    """What the runner asks of a method.

    A job is handed on as it was asked for, where None stands for "not given". `Config` is the dataclass of its own
    options; it `accepts` checkpoints of some kinds. `trains` tells whether it learns from
    data. `defaults` are its learning rate and epochs; None for the model's.
    """

    name: str
    Config: type[Any]
    accepts: frozenset[KindName]
    trains: bool
    defaults: TrainingDefaults | None

    def leaves(self, config: Any) -> KindName:
        """The kind of the checkpoint that it leaves."""

    def title(self, config: Any) -> str:
        """The method as the manifest calls it, such as `prune/smp`."""

    def output(self, job: Job) -> Path:
        """The output folder where none is given."""

    def check(self, job: Job) -> None:
        """UsageError for an option that has no effect in this job, as far as can be told without a model."""

    def prepare_base(self, source: Source, teacher: Source | None) -> Source:
        """The checkpoint that is changed, where `source` was asked for. Raises UsageError where there is none."""

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """UsageError for what a job asks of this model and cannot be; called before hours go into a teacher too."""

    def prepare(self, asked: Job, loaded: TrainableModel, teacher: LoadedModel | None) -> Mapping[str, Any]:
        """Change what has to be changed before the method is attached; facts for the manifest.

        Raises UsageError for an option that turns out to have no effect.
        """

    def attach(self, loaded: TrainableModel, config: Any, dtype: torch.dtype) -> Attached:
        """The method at work on a model whose layers compute in `dtype`."""
