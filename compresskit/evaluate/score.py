"""The official SQuAD 2.0 metric: exact match and F1, HasAns and NoAns apart, and at the best threshold.

The rules are those of the script published with the data set (Rajpurkar, Jia and Liang, arXiv 1806.03822,
`evaluate-v2.0.py`). Sums run over Python floats in the order of the data set, as there, so that the figures
equal the script's to the last digit; numpy only carries the results.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compresskit.data.match import Golds, Normalize, normalize_answer
from compresskit.errors import InputError

if TYPE_CHECKING:
    from compresskit.data.examples import Example
    from compresskit.models.answering import Prediction


@dataclass(frozen=True, slots=True)
class Score:
    """What a set of predictions is worth. Per cent, 0-100; None where there is nothing to average over.

    `best_em` and `best_f1` are what the same spans would score at the null threshold that suits this data
    best; they are None unless every prediction carries a null score. `unknown` counts predictions for
    questions that the data set does not have (ignored, as by the official script). The arrays hold one value
    a question, in the data set's order: `question_em` and `question_f1` float64 in 0-1, `has_answer`
    bool, `paragraph` int64.
    """

    em: float
    f1: float
    has_ans_em: float | None
    has_ans_f1: float | None
    no_ans_em: float | None
    best_em: float | None
    best_em_threshold: float | None
    best_f1: float | None
    best_f1_threshold: float | None
    questions: int
    unanswerable: int
    unknown: int
    question_em: NDArray[np.float64] = field(repr=False, compare=False)
    question_f1: NDArray[np.float64] = field(repr=False, compare=False)
    has_answer: NDArray[np.bool_] = field(repr=False, compare=False)
    paragraph: NDArray[np.int64] = field(repr=False, compare=False)


def score(
    examples: Iterable[Example], predictions: Mapping[str, Prediction], normalize: Normalize = normalize_answer
) -> Score:
    """Score `predictions` (question id -> prediction) against the gold answers of `examples`; see `Scorer`.

    Raises InputError where there is no question, or where questions have no prediction: it tells how many, and which
    is the first.
    """
    scorer = Scorer(normalize)
    missing: list[str] = []
    for example in examples:
        prediction = predictions.get(example.id)
        if prediction is None:
            missing.append(example.id)
        else:
            scorer.add(example, prediction)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(scorer) + len(missing)} questions have no prediction, the first of them "
            f"{missing[0]!r}; predict every question of the data set (an empty text says that there is no answer), or "
            "give the data set that was predicted"
        )
    return scorer.result(unknown=len(predictions) - len(scorer))


class Scorer:
    """The metric of a stream of predictions: each is scored as it comes, and let go.

    EM and F1 take `Prediction.text`, the answer decided at the null threshold; the best threshold is sought over
    `span_text` with the no-answer score `null_score - score`. 37 bytes a question are kept, and no text.

    Predictions are to come in the order of the data set: in another one, floats add up to another last digit than the
    official script's.
    """

    def __init__(self, normalize: Normalize = normalize_answer) -> None:
        self._normalize = normalize
        # The script's F1 is an int where nothing overlaps, and from Python 3.12 on `sum` treats those in its own way.
        self._answers = _columns(em="b", f1="d", f1_is_int="b", has_answer="b", paragraph="q")
        self._spans: _Columns | None = _columns(em="b", f1="d", empty="b", no_answer="d")

    def __len__(self) -> int:
        return len(self._answers["em"])

    def add(self, example: Example, prediction: Prediction) -> None:
        """Take the prediction for one question."""
        golds = Golds((answer.text for answer in example.answers), self._normalize)
        em, f1 = golds.score(prediction.text)
        own = {"has_answer": bool(example.answers), "paragraph": example.paragraph}
        _append(self._answers, em=em, f1=f1, f1_is_int=isinstance(f1, int), **own)
        if prediction.null_score is None:
            self._spans = None  # there is a best threshold of all questions or none
        elif self._spans is not None:
            em, f1 = golds.score(prediction.span_text)
            # Without any span there is nothing to answer at whatever threshold: such a question comes last.
            span = prediction.score
            no_answer = float("inf") if span is None else prediction.null_score - span
            _append(self._spans, em=em, f1=f1, empty=not prediction.span_text, no_answer=no_answer)

    def result(self, unknown: int = 0) -> Score:
        """The figures over the questions taken so far; `unknown` is only handed on.

        Raises InputError where there is no question.
        """
        em, has_answer = self._answers["em"], self._answers["has_answer"]
        if not em:
            raise InputError("the data set holds no question to score; give one that does")
        pairs = zip(self._answers["f1"], self._answers["f1_is_int"], strict=True)
        f1 = [int(value) if is_int else value for value, is_int in pairs]
        best_em, best_em_threshold = self._best("em")
        best_f1, best_f1_threshold = self._best("f1")
        return Score(
            em=100.0 * sum(em) / len(em),
            f1=100.0 * sum(f1) / len(f1),
            has_ans_em=_mean_where(em, has_answer, True),
            has_ans_f1=_mean_where(f1, has_answer, True),
            no_ans_em=_mean_where(em, has_answer, False),
            best_em=best_em,
            best_em_threshold=best_em_threshold,
            best_f1=best_f1,
            best_f1_threshold=best_f1_threshold,
            questions=len(em),
            unanswerable=has_answer.count(False),
            unknown=unknown,
            question_em=np.array(em, dtype=np.float64),
            question_f1=np.array(f1, dtype=np.float64),
            has_answer=np.array(has_answer, dtype=np.bool_),
            paragraph=np.array(self._answers["paragraph"], dtype=np.int64),
        )

    def _best(self, metric: str) -> tuple[float | None, float | None]:
        """The best mean of `metric` (per cent) over all null thresholds, and the threshold.

        The official sweep: begin with every question left unanswered, then answer them in the order of their
        no-answer score. Answering an unanswerable question costs its point; an empty span costs nothing.
        Equal no-answer scores are taken one by one, in the data set's order. Where to answer nothing is best, the
        threshold lies just below the least score (the script calls it 0, at which most questions would be answered).
        """
        if self._spans is None:
            return None, None
        values, empty, no_answer = self._spans[metric], self._spans["empty"], self._spans["no_answer"]
        has_answer = self._answers["has_answer"]
        total: float = has_answer.count(False)
        best, threshold = total, float(np.nextafter(min(no_answer), -np.inf))
        for index in np.argsort(np.array(no_answer), kind="stable"):
            if has_answer[index]:
                total += values[index]
            elif not empty[index]:
                total -= 1
            if total > best:
                best, threshold = total, no_answer[index]
        return 100.0 * best / len(values), threshold


_Columns = dict[str, "array[Any]"]


def _columns(**types: str) -> _Columns:
    return {name: array(code) for name, code in types.items()}


def _append(columns: _Columns, **values: float) -> None:
    for name, value in values.items():
        columns[name].append(value)


def _mean_where(values: Sequence[float], has_answer: Sequence[int], wanted: bool) -> float | None:
    """The mean in per cent where `has_answer` is `wanted`; None where it never is."""
    chosen = [value for value, has in zip(values, has_answer, strict=True) if has == wanted]
    return 100.0 * sum(chosen) / len(chosen) if chosen else None
