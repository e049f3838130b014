"""The functions that make a checkpoint of another one: each is the verb of its name, with its options as keywords."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from compresskit.api.checkpoint import Checkpoint, Reference
from compresskit.api.described import Call, of_options, options_of_verb
from compresskit.api.surroundings import as_found
from compresskit.api.values import reference, values_of
from compresskit.errors import UsageError
from compresskit.options import nearest_or_all
from compresskit.recipe.verbs import VERBS
from compresskit.recipe.work import Work, work_of

if TYPE_CHECKING:
    from typing import Unpack

    from compresskit.api.keywords import (
        ExportKeywords,
        LoraKeywords,
        MergeKeywords,
        PruneKeywords,
        QloraKeywords,
        QuantizeKeywords,
        TrainKeywords,
    )
    from compresskit.methods.run import Outline
    from compresskit.training.plan import Plan

VerbName = Literal["train", "prune", "lora", "qlora", "quantize", "merge", "export"]


def _options(name: VerbName) -> Callable[[Call], Call]:
    return of_options(functools.partial(options_of_verb, name))


@_options("train")
def train(model: Reference, **options: Unpack[TrainKeywords]) -> Checkpoint:
    """Fine-tune the whole of `model`: the baseline of a table, a teacher, or with `distill` a student of one.

    `model` is an alias (`bert`, `demo/bert`, …), a Hub id, a folder, or a `Checkpoint`.

    Raises UsageError for a value that cannot be or has no effect, and where `output` is taken; InputError for broken
    data or a broken checkpoint; MissingError for what this machine lacks; RunFailed where the run itself fails.

    Example:
        >>> dense = ck.train("demo/bert", max_steps=200, output="runs/dense")
    """
    return _made("train", model, options)


@_options("prune")
def prune(model: Reference, **options: Unpack[PruneKeywords]) -> Checkpoint:
    """Learn which weights of `model` may go; the result is a mask on it, a fraction of its size. Raises as `train`.

    Example:
        >>> half = ck.prune("bert", sparsity=0.5, distill=True, teacher="runs/dense", output="runs/half")
    """
    return _made("prune", model, options)


@_options("lora")
def lora(model: Reference, **options: Unpack[LoraKeywords]) -> Checkpoint:
    """Train low-rank adapters on `model`, which stays as it is; the result is a PEFT folder. Raises as `train`."""
    return _made("lora", model, options)


@_options("qlora")
def qlora(model: Reference, **options: Unpack[QloraKeywords]) -> Checkpoint:
    """Pack `model` in 4 or 8 bits (into `<output>-base`, once), and train low-rank adapters on that.

    Raises as `train`.
    """
    return _made("qlora", model, options)


@_options("quantize")
def quantize(model: Reference, **options: Unpack[QuantizeKeywords]) -> Checkpoint:
    """Keep the weights of `model` in 8 or 4 bits; nothing is trained. Raises as `train`.

    Example:
        >>> small = ck.quantize("runs/dense", output="runs/int8")
    """
    return _made("quantize", model, options)


@_options("merge")
def merge(model: Reference, **options: Unpack[MergeKeywords]) -> Checkpoint:
    """Fold a mask or an adapter, or unpack int8, into a plain checkpoint with the same answers. Raises as `train`."""
    return _made("merge", model, options)


@_options("export")
def export(model: Reference, **options: Unpack[ExportKeywords]) -> Checkpoint:
    """Write `model` as ONNX graphs (`onnx=True`), or a Mamba's adapter for plain PEFT (`peft_plain=True`).

    What is written is compared with what it was made from. Raises as `train`.
    """
    return _made("export", model, options)


@overload
def plan(verb: Literal["train"], model: Reference, **options: Unpack[TrainKeywords]) -> list[Plan]: ...
@overload
def plan(verb: Literal["prune"], model: Reference, **options: Unpack[PruneKeywords]) -> list[Plan]: ...
@overload
def plan(verb: Literal["lora"], model: Reference, **options: Unpack[LoraKeywords]) -> list[Plan]: ...
@overload
def plan(verb: Literal["qlora"], model: Reference, **options: Unpack[QloraKeywords]) -> list[Plan]: ...
@overload
def plan(verb: Literal["quantize"], model: Reference, **options: Unpack[QuantizeKeywords]) -> Outline: ...
@overload
def plan(verb: Literal["merge"], model: Reference, **options: Unpack[MergeKeywords]) -> Outline: ...
@overload
def plan(verb: Literal["export"], model: Reference, **options: Unpack[ExportKeywords]) -> Outline: ...
def plan(verb: VerbName, model: Reference, **options: Any) -> list[Plan] | Outline:
    """What `ck.<verb>(model, …)` would do with these options; nothing is written.

    A `Plan` (parameters, bytes, expected memory, steps) for each run of a verb that trains, that of a teacher first; an
    `Outline` for one that does not. Raises what the call itself would before it computes, UsageError for an unknown
    `verb`.

    Example:
        >>> ck.plan("prune", "bert", sparsity=0.9)[0].memory.peak
    """
    if verb not in VERBS:
        raise UsageError(f"there is no ck.{verb} to plan; {nearest_or_all(str(verb), VERBS)}")
    with as_found(computes=True):
        work = _work(verb, model, options)
        return work.plans() if work.trains else work.outline()


def _made(verb: VerbName, model: Reference, options: Mapping[str, Any]) -> Checkpoint:
    with as_found(computes=True), _own_processes():
        return Checkpoint(_work(verb, model, options).run())


@contextlib.contextmanager
def _own_processes() -> Iterator[None]:
    """Leave the group of processes that a run under a launcher has made; the caller's own group stays."""
    from torch import distributed

    is_callers = distributed.is_available() and distributed.is_initialized()
    yield
    if not is_callers:
        from compresskit.training.session import end_processes

        end_processes()


def _work(verb: VerbName, model: Reference, options: Mapping[str, Any]) -> Work:
    values = values_of(verb, options_of_verb(verb), options)
    return work_of(VERBS[verb], {**values, "model": reference(model)})
