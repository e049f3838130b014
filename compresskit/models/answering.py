"""How a question is put to a model, and what an answer is. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compresskit.options import DATA, MACHINE, check, like, option


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a context is cut: `max_length` tokens in a window, `stride` tokens that neighbouring windows share."""

    max_length: int = option(
        384, "Tokens of one window: question and a part of the context.", metavar="TOKENS", least=16, panel=DATA
    )
    stride: int = option(
        128, "Tokens that neighbouring windows of one context share.", metavar="TOKENS", least=0, panel=DATA
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How questions are answered.

    `max_length` and `stride` in tokens; `max_answer_length` in tokens; a question is unanswerable where the null score
    exceeds the score of the best answer by more than `null_threshold`; `n_best` candidates are kept in each prediction.
    """

    max_length: int = like(WindowOptions, "max_length")
    stride: int = like(WindowOptions, "stride")
    batch_size: int = option(32, "Windows in one batch.", metavar="N", least=1, panel=MACHINE)
    n_best: int = option(1, "Candidates to show.", metavar="N", least=1)
    max_answer_length: int = 30
    null_threshold: float = option(0.0, "Unanswerable where null score - score is above this.", metavar="T")

    def __post_init__(self) -> None:
        check(self)

    @property
    def windows(self) -> WindowOptions:
        """The part that cuts contexts."""
        return WindowOptions(self.max_length, self.stride)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One possible answer: its text, and its score (of a span, the sum of its start and end logits)."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one question: `text` as decided at the null threshold ("" is unanswerable).

    `span_text` and `score` are the best answer and its score whatever the null score says; `null_score` is the least
    null score over the windows, None for a task that has none.
    """

    id: str
    text: str
    score: float | None
    null_score: float | None
    span_text: str
    n_best: Sequence[Candidate] = ()
