"""How a loaded checkpoint is asked by a person: examples before each question, and what is told of an answer.

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compresskit.errors import UsageError
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.answering import GENERATING, AnswerOptions
from compresskit.options import check, like, refuse

if TYPE_CHECKING:
    from compresskit.data.examples import Example
    from compresskit.models.answering import Prediction
    from compresskit.models.loaded import LoadedModel

# Candidates over which probabilities are told, as in the official practice.
_N_BEST = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """The examples that stand before each question."""

    shots: int | None = like(EvalSettings, "shots")
    shots_data: str | None = like(EvalSettings, "shots_data", shown=None)
    seed: int | None = like(EvalSettings, "seed", default=None, help="Seed of --shots.", shown="0")

    def __post_init__(self) -> None:
        check(self)
        if not self.shots:
            refuse(self, ("shots_data", "seed"), "without --shots")
        elif self.shots_data is None:
            raise UsageError(f"--shots {self.shots} needs --shots-data: a file of questions, a Hub data set, or demo")

    def drawn(self) -> tuple[Example, ...]:
        """The examples; none where none are asked for. Raises the errors of reading data."""
        if self.shots_data is None:
            return ()
        from compresskit.data.load import load
        from compresskit.data.shots import drawn

        return tuple(drawn(load(self.shots_data, "train"), self.shots or 0, self.seed or 0))


def asked_as(
    loaded: LoadedModel, options: AnswerOptions, shown: Shown, examples: tuple[Example, ...] | None = None
) -> AnswerOptions:
    """How a checkpoint is asked: with the `examples` of `shown`, and with candidates enough to tell probabilities.

    The examples are drawn where they are not given. Raises UsageError for an option without effect.
    """
    if loaded.task.prompt is None:
        for given, names in ((options, GENERATING), (shown, ("shots",))):
            refuse(given, names, f"with {loaded.ref}, which does not write its answers")
    # A model that writes answers needs a beam for each of them.
    n_best = max(options.n_best, _N_BEST) if loaded.task.prompt is None else options.n_best
    return replace(options, shots=shown.drawn() if examples is None else examples, n_best=n_best)


@dataclass(frozen=True, slots=True)
class Choice:
    """One possible answer: its text and score, its place in the context, and how likely it is among those compared.

    `start` is its first character, `end` the one behind its last; both are None for a written text that does not stand
    in the context just once. The probability is None for a model that has none.
    """

    text: str
    score: float
    start: int | None
    end: int | None
    probability: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    `text` is "" where the passage does not tell; `score`, `null_score` and `span_text` are as in
    `compresskit.models.answering.Prediction`. `start` and `end` are characters of the context. `probability` is that of
    what was answered, `no_answer_probability` that of "no answer"; `n_best` holds as many possible answers as were
    asked for, the best first.
    """

    id: str
    text: str
    score: float | None
    null_score: float | None
    start: int | None
    end: int | None
    probability: float | None
    no_answer_probability: float | None
    span_text: str
    n_best: tuple[Choice, ...]

    @classmethod
    def of(cls, prediction: Prediction, n_best: int) -> Answer:
        """What is told of a prediction that was made as `asked_as` says, with `n_best` possible answers."""
        chances, null = prediction.probabilities
        choices = tuple(
            Choice(each.text, each.score, each.start, each.end, chance)
            for each, chance in zip(prediction.n_best, chances, strict=True)
        )
        best = choices[0] if prediction.text and choices else None
        return cls(
            prediction.id,
            prediction.text,
            prediction.score,
            prediction.null_score,
            None if best is None else best.start,
            None if best is None else best.end,
            null if best is None else best.probability,
            null,
            prediction.span_text,
            choices[:n_best],
        )

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer."""
        return bool(self.text)

    def __str__(self) -> str:
        return self.text


def as_line(answer: Answer, *, with_id: bool, with_n_best: bool) -> Mapping[str, Any]:
    """An answer as `compresskit predict` prints it: JSON values, in this order."""
    keys = ("text", "score", "null_score", "start", "end", "probability", "no_answer_probability", "span_text")
    found: dict[str, Any] = {"id": answer.id} if with_id else {}
    found |= {key: getattr(answer, key) for key in keys}
    if with_n_best:
        told = ("text", "score", "start", "end", "probability")
        found["n_best"] = [{key: getattr(choice, key) for key in told} for choice in answer.n_best]
    return found
