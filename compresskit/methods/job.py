"""A job: one run of a method, as a value. What a step of a recipe is, and what a search varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

from compresskit.data import DEFAULT_DATA
from compresskit.methods.distillation import Distillation
from compresskit.models.defaults import BUILT_IN, BY_FAMILY, TrainingDefaults, is_built_in
from compresskit.options import check, like, option
from compresskit.training.arguments import RunOptions, TrainingOptions


class Config(Protocol):
    """A method's own options, a frozen dataclass."""

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values, as they take effect."""

    @classmethod
    def described(cls, told: Mapping[str, Any]) -> Self:
        """The options that `describe` tells so. Raises TypeError for a key that is none of theirs."""


@runtime_checkable
class ByFamily(Protocol):
    """A method's own options of which some have defaults that the family of the model decides."""

    def for_family(self, family: str) -> Self:
        """The same options with these defaults filled in."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run of the method called `method`: its options, its own `config`, and how a teacher takes part.

    `reads` are files that it reads beyond those that its options name, such as the questions that score its result.
    """

    method: str
    options: RunOptions
    config: Any
    distillation: Distillation = field(default_factory=Distillation)
    reads: tuple[Path, ...] = ()

    @property
    def training(self) -> TrainingOptions:
        """The options of a job that trains."""
        assert isinstance(self.options, TrainingOptions)
        return self.options

    @property
    def teacher(self) -> Job | None:
        """The training of the teacher, where one is trained first: the model itself, with the same options."""
        if not self.distillation.trains_teacher:
            return None
        options = replace(
            self.training,
            output=Path(f"{self.options.target}-teacher"),
            lr=self.distillation.teacher_lr,
            epochs=self.distillation.teacher_epochs,
            resume=True,
        )
        return Job("train", options, TrainConfig(), reads=self.reads)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Fine-tuning has no options of its own."""

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values."""
        return {}

    @classmethod
    def described(cls, told: Mapping[str, Any]) -> Self:
        """What `describe` tells so."""
        return cls(**told)


@dataclass(frozen=True, slots=True)
class MergeOptions(RunOptions):
    """What a merge is told: the checkpoint, and the folder of the plain checkpoint."""

    model: str = like(RunOptions, "model", help="A mask, an adapter, or a checkpoint in int8.", metavar="CKPT")
    output: Path | None = like(RunOptions, "output", help="Folder to write.", shown="CKPT-merged", panel=None)
    overwrite: bool = like(RunOptions, "overwrite")


@dataclass(frozen=True, slots=True)
class MergeConfig:
    """The numbers in which the merged weights are kept."""

    dtype: Literal["float32", "bfloat16", "float16"] = option("float32", "Numbers that the merged weights are kept in.")

    def __post_init__(self) -> None:
        check(self)

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values."""
        return {"dtype": self.dtype}

    @classmethod
    def described(cls, told: Mapping[str, Any]) -> Self:
        """What `describe` tells so."""
        return cls(**told)


def model_defaults(options: TrainingOptions) -> TrainingDefaults | None:
    """The defaults of a model that its name alone decides; None where its configuration has to be read."""
    if is_built_in(options.model):
        return BUILT_IN
    return BY_FAMILY[options.model] if options.architecture is not None else None


def with_data(options: TrainingOptions) -> TrainingOptions:
    """The options with their training data: the demo set for a built-in model, SQuAD 2.0 for any other."""
    data = options.train_data or ("demo" if is_built_in(options.model) else DEFAULT_DATA)
    return replace(options, train_data=data)


def default_output(model: str, name: str) -> Path:
    """`runs/<model>-<name>`; <model> is a folder's own name, or the given one with `-` for `/`."""
    folder = Path(model)
    own = folder.resolve().name if folder.is_dir() else model.replace("/", "-")
    return Path("runs") / f"{own}-{name}"
