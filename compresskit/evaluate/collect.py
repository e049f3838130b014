"""Ask a checkpoint all questions of a data set, alone or together with the other processes of a launcher."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compresskit.data.examples import Example, ExampleSet
from compresskit.evaluate import measure
from compresskit.evaluate.predict import predictions
from compresskit.evaluate.shard import Group

if TYPE_CHECKING:
    from compresskit.models.answering import AnswerOptions, Prediction
    from compresskit.models.loaded import LoadedModel

Sink = Callable[[Example, "Prediction"], None]


def collect_answers(
    group: Group,
    loaded: LoadedModel,
    examples: ExampleSet,
    options: AnswerOptions,
    sinks: Sequence[Sink],
    description: str,
) -> float:
    """Hand every question with its answer to the `sinks`, in order; return the questions answered in a second.

    On a CPU the time that the sinks take is not counted; a GPU answers the next questions meanwhile. Each process of
    the group answers its part and gets the answers of all; the slowest one counts.
    """
    if group.shard.world == 1:
        return len(examples) / _drain(loaded, examples, options, sinks, description)
    mine = examples.select(group.shard.part(len(examples)))
    found: list[Prediction] = []

    def keep(_: Example, prediction: Prediction) -> None:
        found.append(replace(prediction, n_best=()))  # nobody asks for the n best here

    seconds = _drain(loaded, mine, options, [keep] if sinks else [], description)
    parts = group.gather((seconds, found))
    if sinks:
        everything = itertools.chain.from_iterable(answers for _, answers in parts)
        for example, prediction in zip(examples, everything, strict=True):
            for sink in sinks:
                sink(example, prediction)
    return len(examples) / max(seconds for seconds, _ in parts)


def largest(group: Group, figures: Mapping[str, float | None]) -> dict[str, Any]:
    """Each figure as the process of the group has it that has most of it; None where none has it."""
    parts = group.gather(dict(figures))
    known = {key: [value for part in parts if (value := part[key]) is not None] for key in figures}
    return {key: max(values, default=None) for key, values in known.items()}


def _drain(
    loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions, sinks: Sequence[Sink], description: str
) -> float:
    """Answer every question, hand it to the sinks, and return the seconds that answering took."""
    measure.synchronize(loaded.device)
    start, elsewhere = time.perf_counter(), 0.0
    for example, prediction in zip(examples, predictions(loaded, examples, options, description), strict=True):
        paused = time.perf_counter()
        for sink in sinks:
            sink(example, prediction)
        elsewhere += time.perf_counter() - paused
    measure.synchronize(loaded.device)
    seconds = time.perf_counter() - start
    return seconds - elsewhere if loaded.device.type == "cpu" else seconds
