"""The figures of every slice of the questions, from the scores that rows already have, and what they tell of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import UsageError
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import Layout
from compresskit.evaluate.slice import Slice, Slices
from compresskit.evaluate.slicing import Division
from compresskit.evaluate.stats import Clusters, holm, mcnemar_each
from compresskit.evaluate.units import signed
from compresskit.text import counted

SURE = 0.05
"""A slice stands out where its corrected p-value is below."""

_Pair = tuple[NDArray[np.float64], ...]
"""EM and F1 of the questions."""


def with_slices(
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    divisions: Mapping[str, Division],
    layout: Layout | None = None,
) -> list[Row]:
    """`rows` with their slices; a row without scores of single questions has none.

    Windows are those that the baseline read, so that all rows are divided alike; where it is no model, those of the
    row. A row without a model has none then. `layout` says which rows are means, and what each is compared with.
    """
    layout = layout or Layout.of(rows)
    base = None if layout.base is None else outcomes[layout.base]
    base = base if base is not None and len(base.question_em) else None
    paragraph = next((np.asarray(outcome.paragraph) for outcome in outcomes if len(outcome.question_em)), None)
    if paragraph is None:
        return list(rows)
    shared = _clustered({**divisions, **({} if base is None else _windows(base))}, paragraph)
    result = []
    for at, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
        if not len(outcome.question_em):
            result.append(row)
            continue
        own = shared if "windows" in shared else {**shared, **_clustered(_windows(outcome), paragraph)}
        scores = _Scores(outcomes, at, layout)
        found = {key: dict(zip(values, scores.slices(each), strict=True)) for key, (values, each) in own.items()}
        result.append(replace(row, slices=_corrected(found)))
    return result


def _windows(outcome: Outcome) -> Mapping[str, Division]:
    """The questions divided by the windows that were read for them; empty where there is no model."""
    return {"windows": Division.of_lengths("windows", outcome.windows)} if outcome.windows else {}


def _clustered(
    divisions: Mapping[str, Division], paragraph: NDArray[np.int64]
) -> Mapping[str, tuple[Sequence[str], Clusters]]:
    """The values of each division, and its slices with their paragraphs."""
    return {key: (each.values, Clusters(each.number, len(each.values), paragraph)) for key, each in divisions.items()}


class _Scores:
    """A row's scores of the questions one by one, and those of what it is compared with.

    Of a mean these are the mean scores, and the intervals are as wide as its runs differ too.
    """

    def __init__(self, outcomes: Sequence[Outcome], at: int, layout: Layout) -> None:
        self._own = _scores(outcomes[at])
        self._own_runs = [_scores(outcomes[run]) for run in layout.runs.get(at, ())]
        self._less: _Pair | None = None
        self._less_runs: list[list[_Pair]] = []
        base = layout.versus.get(at)
        self._is_tested = base is not None and layout.is_single(at) and layout.is_single(base)
        if base is not None and len(outcomes[base].question_em):
            self._less = _less(self._own, _scores(outcomes[base]))
            if (pairs := layout.pairs.get(at)) is not None:
                self._less_runs = [[_less(_scores(outcomes[run]), _scores(outcomes[pairs[run]])) for run in pairs]]
            else:
                self._less_runs = [self._own_runs, [_scores(outcomes[run]) for run in layout.runs.get(base, ())]]

    def slices(self, clusters: Clusters) -> list[Slice]:
        """The figures of each slice, but for the correction."""
        em, f1 = (_means(clusters, each) for each in self._own)
        em_ci95, f1_ci95 = (
            [_within(span) for span in clusters.intervals(each, _columns([self._own_runs], which))]
            for which, each in enumerate(self._own)
        )
        found = list(map(Slice, clusters.questions.tolist(), em, em_ci95, f1, f1_ci95))
        if self._less is None:
            return found
        delta_em, delta_f1 = (_means(clusters, each) for each in self._less)
        spans_em, spans_f1 = (
            clusters.intervals(each, _columns(self._less_runs, which)) for which, each in enumerate(self._less)
        )
        p_values = self._p_values(clusters, self._less[0])
        paired = zip(found, delta_em, spans_em, delta_f1, spans_f1, p_values, strict=True)
        return [
            replace(each, delta_em=by_em, delta_em_ci95=em95, delta_f1=by_f1, delta_f1_ci95=f195, p_value=p)
            for each, by_em, em95, by_f1, f195, p in paired
        ]

    def _p_values(self, clusters: Clusters, less: NDArray[np.float64]) -> Sequence[float | None]:
        """McNemar's of each slice; None each where a mean takes part: the test is of two checkpoints."""
        if not self._is_tested:
            return [None] * clusters.count
        won, lost = (clusters.sums((sign * less > 0).astype(np.float64)).astype(np.int64) for sign in (1, -1))
        found: list[float | None] = mcnemar_each(won, lost).tolist()
        return found


def _scores(outcome: Outcome) -> _Pair:
    return np.asarray(outcome.question_em, dtype=np.float64), np.asarray(outcome.question_f1, dtype=np.float64)


def _less(one: _Pair, other: _Pair) -> _Pair:
    return one[0] - other[0], one[1] - other[1]


def _columns(groups: Sequence[Sequence[_Pair]], which: int) -> list[list[NDArray[np.float64]]]:
    """The scores of one kind (0 is EM, 1 is F1) of each run, by groups."""
    return [[each[which] for each in group] for group in groups if group]


def _means(clusters: Clusters, values: NDArray[np.float64]) -> list[float]:
    means: list[float] = (100.0 * clusters.sums(values) / clusters.questions).tolist()
    return means


def _within(span: tuple[float, float] | None) -> tuple[float, float] | None:
    """An interval of a figure that is a per cent one: nothing is below 0 or above 100."""
    return None if span is None else (max(0.0, span[0]), min(100.0, span[1]))


def _corrected(found: Mapping[str, Mapping[str, Slice]]) -> Slices:
    """The slices of a row with their p-values corrected for all of them."""
    p_values = [each.p_value for slices in found.values() for each in slices.values() if each.p_value is not None]
    corrected = iter(holm(p_values))
    return {
        key: {
            value: each if each.p_value is None else replace(each, p_value_holm=next(corrected))
            for value, each in slices.items()
        }
        for key, slices in found.items()
    }


def slices_against(slices: Slices | None, base: Slices | None) -> Slices | None:
    """A row's slices with plain differences from those of another row, without what was paired with a former one."""
    if slices is None:
        return None
    return {
        key: {value: each.against((base or {}).get(key, {}).get(value)) for value, each in of_key.items()}
        for key, of_key in slices.items()
    }


def lost_most(row: Row) -> str | None:
    """Which slice of a row lost most EM against the baseline, of those that stand out after correction, in words.

    None where its slices were not compared with a baseline's.
    """
    tested = [
        (key, value, each)
        for key, of_key in (row.slices or {}).items()
        for value, each in of_key.items()
        if each.p_value_holm is not None
    ]
    if not tested:
        return None
    worst = [(each.delta_em, key, value, each) for key, value, each in tested if stands_out(each) < 0 and each.delta_em]
    if not worst:
        return "no slice stands out"
    delta, key, value, each = min(worst, key=lambda one: one[:3])
    questions = counted(each.questions, "question")
    return f"{key}={value} lost most: Δ EM {signed(delta)} over {questions}, p = {each.p_value_holm:.2g} corrected"


def stands_out(found: Slice) -> int:
    """-1 where a slice lost EM against the baseline beyond chance, 1 where it won, 0 where neither can be said."""
    if found.p_value_holm is None or found.p_value_holm >= SURE or not found.delta_em:
        return 0
    return -1 if found.delta_em < 0 else 1


@dataclass(frozen=True, slots=True)
class SliceLine:
    """A slice of a row as a table tells it."""

    row: Row
    value: str
    figures: Slice


def lines_of(report: Report, key: str) -> list[SliceLine]:
    """The slices of one key, those of a value together, in the order of the first row that has the value."""
    values = dict.fromkeys(value for row in report.rows for value in (row.slices or {}).get(key, {}))
    return [
        SliceLine(row, value, row.slices[key][value])
        for value in values
        for row in report.rows
        if row.slices is not None and value in row.slices.get(key, {})
    ]


def keys_of(report: Report) -> list[str]:
    """The keys by which any row of a report is divided."""
    return list(dict.fromkeys(key for row in report.rows for key in row.slices or {}))


def check_keys(report: Report, keys: Sequence[str]) -> None:
    """UsageError where no row of a report is divided by one of `keys`."""
    known = keys_of(report)
    for key in keys:
        if key not in known:
            told = f"the rows are divided by {', '.join(known)}" if known else "no row is divided"
            raise UsageError(f"--slice {key}: no row has slices of it; {told}")
