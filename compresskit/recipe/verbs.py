"""What a step of a recipe may do: the verbs, with the options that their flags are made of. Nothing here needs torch.

A step takes the keys of its verb's flags but for MODEL, which is its `base`, and for what a run of the recipe decides
by itself: `output`, `overwrite` and `resume`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.distillation import Distillation
from compresskit.methods.export.config import ExportConfig, ExportOptions
from compresskit.methods.job import Job, MergeConfig, MergeOptions, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.quantize.config import QloraConfig, QuantizeConfig, QuantizeOptions
from compresskit.models.architecture import ARCHITECTURES, chosen
from compresskit.options import Known, options_of
from compresskit.training.arguments import TrainingOptions

DECIDED = ("model", "output", "overwrite", "resume")
"""Fields that a run of the recipe fills in."""

BUILT: Mapping[str, Known] = {name: each for kind in ARCHITECTURES.values() for name, each in options_of(kind).items()}
"""The options of a model that is built from its training data."""

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of the command line: the method that it runs, the dataclasses of its options, the method's own last.

    `builds` says whether it takes a model that is built.
    """

    name: str
    method: str
    kinds: tuple[type, ...]
    builds: bool = False

    @property
    def trains(self) -> bool:
        """Whether it learns from data."""
        return TrainingOptions in self.kinds

    @property
    def options(self) -> Mapping[str, Known]:
        """The options that a step takes, by the names of their fields."""
        known = {name: each for kind in self.kinds for name, each in options_of(kind).items() if name not in DECIDED}
        return {**known, **BUILT} if self.builds else known

    def job(self, values: Mapping[str, Any]) -> Job:
        """The job of the values given of the options, `model` and `output` among them.

        Raises UsageError where a value cannot be, or has no effect.
        """
        if not self.trains:
            return Job(self.method, made(self.kinds[0], values), made(self.kinds[-1], values))
        options = made(TrainingOptions, values)
        if self.builds:
            given = {name: values[name] for name in BUILT if name in values}
            options = replace(options, architecture=chosen(options.model, given))
        options = made(EvaluatorOptions, values).choosing(options)
        return Job(self.method, options, made(self.kinds[-1], values), made(Distillation, values))


def made(part: type[Part], values: Mapping[str, Any]) -> Part:
    """A dataclass of options from those of the values that are its own."""
    return part(**{name: values[name] for name in options_of(part) if name in values})


_TRAINING = (TrainingOptions, EvaluatorOptions, Distillation)
VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("train", "train", (*_TRAINING, TrainConfig), builds=True),
        Verb("prune", "prune", (*_TRAINING, PruneConfig), builds=True),
        Verb("lora", "lora", (*_TRAINING, LoraConfig)),
        Verb("qlora", "lora", (*_TRAINING, QloraConfig, LoraConfig)),
        Verb("quantize", "quantize", (QuantizeOptions, QuantizeConfig)),
        Verb("merge", "merge", (MergeOptions, MergeConfig)),
        Verb("export", "export", (ExportOptions, ExportConfig)),
    )
}


def key_of(name: str) -> str:
    """The key of a field: its flag without the dashes in front."""
    return name.replace("_", "-")
