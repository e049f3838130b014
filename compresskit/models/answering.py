"""How a question is put to a model, and what an answer is. Nothing here needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from compresskit.models.prompt import PROMPTS, Prompt, read_prompt
from compresskit.options import DATA, MACHINE, check, like, option

GENERATION = "Generation"
"""Heading of the options that only models which write their answers have."""
GENERATING = ("prompt_template", "beams", "length_penalty")
"""The names of these options."""


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a question is put: `max_length` tokens in a window, `stride` tokens that neighbouring windows share.

    `prompt_template` is the text around question and context for a model that writes its answers; None is the task's.
    """

    max_length: int = option(
        384, "Tokens of one window: question and a part of the context.", metavar="TOKENS", least=16, panel=DATA
    )
    stride: int = option(
        128, "Tokens that neighbouring windows of one context share.", metavar="TOKENS", least=0, panel=DATA
    )
    prompt_template: Prompt | None = option(
        None,
        f"The text around question and context, of a model that writes its answers: {', '.join(PROMPTS)}, or a JSON "
        "file.",
        metavar="NAME|FILE",
        parse=read_prompt,
        shown="t5",
        panel=DATA,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How questions are answered.

    `max_length` and `stride` in tokens; `max_answer_length` in tokens; a question is unanswerable where the null score
    exceeds the score of the best answer by more than `null_threshold`; `n_best` candidates are kept in each prediction.
    A model that writes its answers is asked with the prompt that it was trained with, unless another is given, and
    searches with so many `beams`; a text of n tokens ranks by its log-probability divided by n ** `length_penalty`. The
    `shots` are examples (`Example`) that stand before each question.
    """

    max_length: int = like(WindowOptions, "max_length")
    stride: int = like(WindowOptions, "stride")
    batch_size: int = option(32, "Windows in one batch.", metavar="N", least=1, panel=MACHINE)
    n_best: int = option(1, "Candidates to show.", metavar="N", least=1)
    max_answer_length: int = option(30, "Longest answer that is given, in tokens.", metavar="TOKENS", least=1)
    null_threshold: float = option(0.0, "Unanswerable where null score - score is above this.", metavar="T")
    prompt_template: Prompt | None = like(WindowOptions, "prompt_template", shown="as it was trained", panel=GENERATION)
    beams: int | None = option(
        None, "Hypotheses that are kept in the search for a text.", metavar="N", least=1, shown="1", panel=GENERATION
    )
    length_penalty: float | None = option(
        None,
        "Above 0 longer texts rank higher: their log-probability is divided by the number of tokens to this power.",
        metavar="P",
        shown="1",
        panel=GENERATION,
    )
    shots: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        check(self)

    @property
    def windows(self) -> WindowOptions:
        """The part that puts the questions."""
        return WindowOptions(self.max_length, self.stride, self.prompt_template)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One possible answer: its text, its score, and where it stands in the context: characters `start` to `end`.

    The score of a span is the sum of its start and end logits, that of a written text its log-probability. `end` is
    the character behind the last one. Both are None for a written text that does not stand in the context just once.
    """

    text: str
    score: float
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one question: `text` as decided at the null threshold ("" is unanswerable).

    `span_text` and `score` are the best answer and its score whatever the null score says. `null_score` is that of "no
    answer": for spans the least over the windows, for texts that of the window with the best answer; None where there
    is none. `windows` counts those that the model read; None where no model did.
    """

    id: str
    text: str
    score: float | None
    null_score: float | None
    span_text: str
    n_best: Sequence[Candidate] = ()
    windows: int | None = field(default=None, compare=False)

    @property
    def probabilities(self) -> tuple[Sequence[float], float | None]:
        """Those of the n best, and that of "no answer" (None without a null score): the softmax of their scores.

        So the official practice has it (Devlin et al. 2019): answers that are not among the n best count as nothing.
        """
        scores = [candidate.score for candidate in self.n_best]
        if self.null_score is not None:
            scores.append(self.null_score)
        most = max(scores, default=0.0)
        powers = [math.exp(score - most) for score in scores]
        found = [power / sum(powers) for power in powers]
        return (found, None) if self.null_score is None else (found[:-1], found[-1])
