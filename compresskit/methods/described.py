"""The way back from a manifest: the job that one of its steps tells of. What `run.describe` says of it is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from compresskit.checkpoint.manifest import Step
from compresskit.errors import InputError, UsageError
from compresskit.methods.distillation import TEMPERATURE, WEIGHT, Distillation
from compresskit.methods.job import Job
from compresskit.methods.method import Method
from compresskit.methods.registry import METHODS, method_named
from compresskit.models.architecture import ARCHITECTURES
from compresskit.models.prompt import Prompt
from compresskit.training.arguments import PLACE, RunOptions, TrainingOptions


def method_of(step: Step) -> Method:
    """The method of a step, which the manifest calls `prune/smp` and the like; InputError for one that is not known."""
    name = step.method.partition("/")[0]
    if name not in METHODS:
        raise InputError(
            f"its manifest tells of {step.method!r:.80}, and this version makes checkpoints by {', '.join(METHODS)}"
        )
    return method_named(name)


def job_of(step: Step, output: Path) -> Job:
    """The job that a step tells of, to be left in `output`; what it reads is named as it was named then.

    An option that was perhaps not given is left out where its default is the same, as not every model takes it. Raises
    InputError for a method and an option that this version does not know, and for a value that cannot be.
    """
    method, told = method_of(step), dict(step.config)
    try:
        if not method.trains:
            return Job(method.name, RunOptions(told.pop("checkpoint"), output), method.Config.described(told))
        distillation = _distillation(told)
        options = _training(told, output, method)
        return Job(method.name, options, method.Config.described(told), distillation)
    except (AttributeError, InputError, KeyError, TypeError, UsageError, ValueError) as error:
        made_by = step.versions.get("compresskit", "?")
        raise InputError(
            f"its manifest tells of a {step.method} that this version cannot make ({_fault(error)}); "
            f"take the version that made it, {made_by}"
        ) from error


def _fault(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error).partition(";")[0].replace("__init__() got an unexpected keyword argument", "unknown option")


def _distillation(told: dict[str, Any]) -> Distillation:
    """How a teacher took part; its settings are taken out of what is told."""
    softening, teacher, training = (told.pop(key, None) for key in ("distill", "teacher", "teacher_training"))
    given: dict[str, Any] = {"distill": softening is not None, "teacher": teacher}
    if softening is not None:
        temperature, weight = softening["temperature"], softening["weight"]
        given |= {"temperature": temperature} if temperature != TEMPERATURE else {}
        given |= {"distill_weight": weight} if weight != WEIGHT else {}
    if training is not None:
        given |= {"teacher_lr": training["lr"]}
        given |= {} if told.get("max_steps") else {"teacher_epochs": training["epochs"]}
    return Distillation(**given)


def _training(told: dict[str, Any], output: Path, method: Method) -> TrainingOptions:
    """The options of the training; they are taken out of what is told."""
    names = [field.name for field in fields(TrainingOptions) if field.name not in PLACE]
    values = {name: told.pop(name) for name in names if name in told}
    values["max_steps"] = values.get("max_steps") or None
    if values["max_steps"] is not None:
        values.pop("epochs", None)
    if method.defaults is not None and values.get("lr") == method.defaults.lr:
        del values["lr"]  # of masks over frozen weights there is none
    if values.get("prompt_template") is not None:
        values["prompt_template"] = Prompt.from_dict(values["prompt_template"], "prompt_template")
    if values.get("architecture") is not None:
        values["architecture"] = _architecture(values["model"], values["architecture"])
    return TrainingOptions(**values, output=output)


def _architecture(model: str, told: Mapping[str, Any]) -> Any:
    """What a model was built from."""
    if model not in ARCHITECTURES:
        raise InputError(f"{model!r:.80} is none of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[model](**told)
