"""Figures beyond EM and F1, on request: the overlap of answers with the gold ones, as libraries of their own count it.

They are taken over the questions that have an answer, since without one there is no text to overlap with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from compresskit import packages
from compresskit.data.examples import Example
from compresskit.errors import UsageError

if TYPE_CHECKING:
    from compresskit.models.answering import Prediction


class Metric(Protocol):
    """Takes answers one by one, and has its figures at the end, under its `names`."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its figures."""

    def add(self, gold: Sequence[str], answer: str) -> None:
        """Take the answer to one question, and its accepted ones."""

    def result(self) -> Mapping[str, float]:
        """The figures by name, per cent."""


class Bleu:
    """Corpus BLEU with sacrebleu (Post 2018): up to 4-grams, tokenizer 13a, exponential smoothing.

    The order is that of the answer where it is shorter than four tokens ("effective order"), as most answers are.
    """

    names = ("bleu",)

    def __init__(self) -> None:
        self._golds: list[Sequence[str]] = []
        self._answers: list[str] = []

    def add(self, gold: Sequence[str], answer: str) -> None:
        """Take the answer to one question, and its accepted ones."""
        self._golds.append(gold)
        self._answers.append(answer)

    def result(self) -> Mapping[str, float]:
        """`bleu`."""
        from sacrebleu.metrics import BLEU

        most = max(map(len, self._golds))
        # sacrebleu takes all first references, all second ones, and so on; None stands for one that is not there.
        streams = [[gold[index] if index < len(gold) else None for gold in self._golds] for index in range(most)]
        return {"bleu": float(BLEU(effective_order=True).corpus_score(self._answers, streams).score)}


class Rouge:
    """Mean ROUGE-1, ROUGE-2 and ROUGE-L F1 with rouge-score (Lin 2004), against the gold answer that suits best."""

    names = ("rouge1", "rouge2", "rougeL")

    def __init__(self) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        self._scorer = RougeScorer(list(self.names))
        self._sums = dict.fromkeys(self.names, 0.0)
        self._count = 0

    def add(self, gold: Sequence[str], answer: str) -> None:
        """Take the answer to one question, and its accepted ones."""
        for name, found in self._scorer.score_multi(gold, answer).items():
            self._sums[name] += found.fmeasure
        self._count += 1

    def result(self) -> Mapping[str, float]:
        """`rouge1`, `rouge2` and `rougeL`."""
        return {name: 100.0 * total / self._count for name, total in self._sums.items()}


METRICS: Mapping[str, tuple[str, Callable[[], Metric]]] = {"bleu": ("sacrebleu", Bleu), "rouge": ("rouge_score", Rouge)}
"""What can be asked for of answers: the package that counts it, and how."""

PERPLEXITY = "ppl"
"""What can be asked for of language models beside; see `compresskit.models.tasks.language`.

What all these leave in `Row.metrics` is described in `compresskit.evaluate.figures.ASKED`.
"""


def check_metrics(names: Sequence[str]) -> None:
    """UsageError where there is no metric of one of `names`, MissingError where its package is not installed."""
    for name in names:
        if name == PERPLEXITY:
            continue
        if name not in METRICS:
            raise UsageError(f"--metrics {name} is not one of {', '.join((*METRICS, PERPLEXITY))}")
        packages.require(METRICS[name][0], what=f"--metrics {name}")


class Metrics:
    """All figures that were asked for, over one pass of the questions; perplexity is none of answers, so it is None."""

    def __init__(self, names: Sequence[str]) -> None:
        self._metrics = [METRICS[name][1]() for name in names if name in METRICS]
        self._none: dict[str, float | None] = {PERPLEXITY: None} if PERPLEXITY in names else {}
        self._answerable = 0

    def add(self, example: Example, prediction: Prediction) -> None:
        """Take one question; one without an answer says nothing about overlap."""
        if example.answers and self._metrics:
            self._answerable += 1
            gold = list(dict.fromkeys(answer.text for answer in example.answers))
            for metric in self._metrics:
                metric.add(gold, prediction.text)

    def result(self) -> dict[str, float | None]:
        """The figures by name; None for those of answers where no question has one."""
        if not self._answerable:
            return self._none | dict.fromkeys(name for metric in self._metrics for name in metric.names)
        return self._none | {name: value for metric in self._metrics for name, value in metric.result().items()}
