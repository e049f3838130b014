"""What it scores to answer nothing at all: the least that a checkpoint has to beat.

On SQuAD 2.0's dev set it is an EM of 50. A model that knows nothing and says nothing has that too, and a gate that
compares two such models holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compresskit.data.match import Golds, normalizer
from compresskit.evaluate.units import per_cent

if TYPE_CHECKING:
    from compresskit.data.examples import Example
    from compresskit.evaluate.row import Interval, Report, Row

MARK = "†"
"""Stands behind the name of a row that does not beat answering nothing."""


def answering_nothing(examples: Iterable[Example], normalize: str = "squad") -> NDArray[np.float64]:
    """The scores of leaving every question unanswered: EM and F1 in 0-1, shape (questions, 2).

    They are those of the metric for an empty text, so 1 where there is no gold answer, or none of which the metric
    leaves a letter. `normalize` is as in `EvalSettings`.
    """
    made_comparable = normalizer(normalize)
    scores = [Golds((answer.text for answer in each.answers), made_comparable).score("") for each in examples]
    return np.array(scores, dtype=np.float64).reshape(-1, 2)


def as_figures(scores: NDArray[np.float64]) -> Mapping[str, float]:
    """EM and F1 of answering nothing, per cent, as `dataset.nothing` holds them."""
    em, f1 = 100.0 * scores.mean(axis=0)
    return {"em": float(em), "f1": float(f1)}


def beats_nothing(
    own_em: NDArray[np.float64], nothing_em: NDArray[np.float64], interval: Interval | None
) -> bool | None:
    """Whether a checkpoint's EM is above that of answering nothing by more than chance.

    The scores are those of the questions, shape (questions,); `interval` is the 95 % interval of their paired
    difference in points. Without one (a single paragraph) a checkpoint that is not even above has lost, and of any
    other nobody can tell: None. EM decides, not F1: spans drawn by lot have an F1 above 0, but hardly an EM.
    """
    if interval is not None:
        return interval[0] > 0
    return None if own_em.mean() > nothing_em.mean() else False


def marked(row: Row) -> str:
    """A row's name as a table has it: with what it is, and with `MARK` where it does not beat answering nothing."""
    name = f"{row.name} (baseline)" if row.baseline else row.name
    return f"{name} {MARK}" if row.beats_nothing is False else name


def told(report: Report) -> Sequence[str]:
    """Lines below a table: what answering nothing scores, and which rows do not beat it."""
    known = report.dataset.nothing
    if known is None:
        return []
    lines = [f"answering nothing at all: EM {per_cent(known['em'])}, F1 {per_cent(known['f1'])}"]
    weak = [row.name for row in report.rows if row.beats_nothing is False]
    if weak:
        lines.append(f"{MARK} EM does not beat answering nothing by its paired 95 % interval: {', '.join(weak)}")
    return lines


def score_of(metric: str, nothing: Mapping[str, float] | None, baseline: Row | None) -> float | None:
    """What answering nothing has of a figure, by its key in a row; None where that is not known, or is no loss.

    All unanswerable questions are right then, so `no_ans_em` is not what a checkpoint has to beat.
    """
    if nothing is None:
        return None
    known: dict[str, float | None] = {**nothing, "has_ans_em": 0.0, "has_ans_f1": 0.0}
    if baseline is not None and "em" in nothing:
        known["delta_em"] = None if baseline.em is None else nothing["em"] - baseline.em
        known["delta_f1"] = None if baseline.f1 is None else nothing["f1"] - baseline.f1
    return known.get(metric)


def weak(baseline: Row) -> str:
    """Why a gate relative to such a baseline cannot hold."""
    return (
        f"the baseline {baseline.name} does not beat answering nothing, so a comparison with it says little; "
        "name a better one, or add --allow-weak-baseline"
    )


HELD_BY_ZERO = "even 0 would hold it"
"""Why a gate on what is counted per cent is not to be relied on."""


def held_by_nothing(score: float) -> str:
    """Why a gate is not to be relied on that answering nothing holds too."""
    return f"answering nothing at all ({per_cent(score)}) would hold it too"
