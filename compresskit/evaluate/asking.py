"""Ask a checkpoint all questions of a data set, alone or together with the other processes of a launcher."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compresskit.data.examples import Example, ExampleSet
from compresskit.evaluate import measure
from compresskit.evaluate.predict import predictions
from compresskit.evaluate.shard import Group, Shard

if TYPE_CHECKING:
    from compresskit.models.answering import AnswerOptions, Prediction
    from compresskit.models.loaded import LoadedModel

Sink = Callable[[Example, "Prediction"], None]


@dataclass(frozen=True, slots=True)
class Asking:
    """This process's place among those that share the questions, and the group in which they gather the answers."""

    shard: Shard
    group: Group

    def ask(
        self,
        loaded: LoadedModel,
        examples: ExampleSet,
        options: AnswerOptions,
        sinks: Sequence[Sink],
        description: str,
    ) -> float:
        """Hand every question with its answer to the ``sinks``, in order; return the questions answered in a second.

        The time that the sinks take is not counted. Each process answers its part and gets the answers of all; the
        slowest one counts.
        """
        if self.shard.world == 1:
            return len(examples) / _drain(loaded, examples, options, sinks, description)
        mine = examples.select(self.shard.part(len(examples)))
        found: list[Prediction] = []
        seconds = _drain(loaded, mine, options, [lambda _, prediction: found.append(prediction)], description)
        told = [_told(prediction) for prediction in found] if sinks else []
        parts = self.group.gather({"seconds": seconds, "answers": told})
        for example, prediction in zip(examples, _understood(parts), strict=False):
            for sink in sinks:
                sink(example, prediction)
        slowest: float = max(part["seconds"] for part in parts)
        return len(examples) / slowest

    def most(self, figures: Mapping[str, float | None]) -> dict[str, Any]:
        """Return each figure as the process has it that has most of it; None where none has it."""
        told = self.group.gather(dict(figures))
        known = {key: [part[key] for part in told if part[key] is not None] for key in figures}
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
    return time.perf_counter() - start - elsewhere


def _told(prediction: Prediction) -> list[object]:
    """Return a prediction as JSON has it, without its n best, which nobody asks for here."""
    return [prediction.id, prediction.text, prediction.score, prediction.null_score, prediction.span_text]


def _understood(parts: Iterable[Mapping[str, Any]]) -> Iterator[Prediction]:
    from compresskit.models.answering import Prediction

    for part in parts:
        yield from (Prediction(*values) for values in part["answers"])
