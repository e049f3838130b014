"""What sets checkpoints apart: intervals, paired differences from the baseline, and the questions that flip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compresskit.data.examples import Example
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.nothing import beats_nothing
from compresskit.evaluate.predict import Questions
from compresskit.evaluate.row import Flip, Interval, Row
from compresskit.evaluate.runs import Layout
from compresskit.evaluate.stats import bootstrap_means, intervals_of, margin_of_runs, mcnemar, widened


def compared(
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    nothing: NDArray[np.float64] | None = None,
    layout: Layout | None = None,
) -> list[Row]:
    """`rows` with the intervals of EM and F1 and, where one is the baseline, their differences from it.

    Differences are in points and paired: both checkpoints on the same questions. Their intervals are bootstrapped over
    paragraphs, all with the same draws; those of a mean of several runs are as wide as the runs differ too. `p_value`
    is McNemar's exact one, which is of two checkpoints: where a mean takes part there is none, and no question is won
    or lost. `outcomes` hold the scores of the questions one by one; a row whose outcome has none stays as it is.
    `nothing` holds the scores of answering nothing, shape (questions, 2): with it, each row says whether it beats that.
    `layout` says which rows are means, and what each is compared with.
    """
    layout = layout or Layout.of(rows)
    scored = [index for index, outcome in enumerate(outcomes) if len(outcome.question_em)]
    if not scored:
        return list(rows)
    intervals = _Intervals(outcomes, scored, layout, nothing)
    result = list(rows)
    for index in scored:
        em, f1 = intervals.of(index)
        result[index] = replace(rows[index], em_ci95=em, f1_ci95=f1)
        if nothing is not None:
            beats = beats_nothing(
                np.asarray(outcomes[index].question_em), nothing[:, 0], intervals.above_nothing(index)
            )
            result[index] = replace(result[index], beats_nothing=beats)
    for index, base in layout.versus.items():
        if index in scored and base in scored:
            em, f1 = intervals.of_difference(index, base)
            result[index] = with_differences(replace(result[index], delta_em_ci95=em, delta_f1_ci95=f1), rows[base])
            if layout.is_single(index) and layout.is_single(base):
                result[index] = _tested(result[index], outcomes[index], outcomes[base])
    if layout.base in scored and layout.base is not None:
        result[layout.base] = with_differences(result[layout.base], rows[layout.base])
    return result


def _tested(row: Row, own: Outcome, base: Outcome) -> Row:
    won, lost = (len(flipped) for flipped in _flipped(own, base))
    return replace(row, questions_won=won, questions_lost=lost, p_value=mcnemar(won=won, lost=lost))


class _Intervals:
    """The 95 % intervals of EM and F1, per cent, of every row and of differences between two.

    None with one paragraph, from which nothing can be drawn. All rows share the draws of paragraphs. A mean of several
    runs is drawn as such, and its interval widened by what the runs leave open; where two means are compared in pairs,
    that is by how the differences of the pairs differ.
    """

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        scored: Sequence[int],
        layout: Layout,
        nothing: NDArray[np.float64] | None,
    ) -> None:
        self._layout = layout
        singles = [index for index in scored if layout.is_single(index)]
        columns = [np.array([outcomes[index].question_em, outcomes[index].question_f1]).T for index in singles]
        self._points = {index: 100 * each.mean(axis=0) for index, each in zip(singles, columns, strict=True)}
        columns += [] if nothing is None else [nothing[:, :1]]
        self._nothing = None if nothing is None else 100 * nothing[:, :1].mean(axis=0)
        self._drawn = bootstrap_means(np.concatenate(columns, axis=1), np.array(outcomes[scored[0]].paragraph))
        self._place = {index: 2 * at for at, index in enumerate(singles)}

    def of(self, index: int) -> list[Interval | None]:
        """Those of a row's own figures."""
        if self._drawn is None:
            return [None, None]
        return self._widened(self._mean_drawn(index), self._mean(index), [self._values(index)], within=(0.0, 100.0))

    def of_difference(self, index: int, base: int) -> list[Interval | None]:
        """Those of a row's figures less the baseline's."""
        if self._drawn is None:
            return [None, None]
        drawn, mean = self._mean_drawn(index) - self._mean_drawn(base), self._mean(index) - self._mean(base)
        groups = [self._values(index), self._values(base)]
        if (pairs := self._layout.pairs.get(index)) is not None:
            groups = [np.stack([self._points[run] - self._points[pair] for run, pair in pairs.items()])]
        return self._widened(drawn, mean, groups)

    def above_nothing(self, index: int) -> Interval | None:
        """That of a row's EM less that of answering nothing."""
        if self._drawn is None or self._nothing is None:
            return None
        drawn = self._mean_drawn(index)[:, :1] - self._drawn[:, -1:]
        return self._widened(drawn, self._mean(index)[:1] - self._nothing, [self._values(index)[:, :1]])[0]

    def _members(self, index: int) -> Sequence[int]:
        return self._layout.runs.get(index, (index,))

    def _values(self, index: int) -> NDArray[np.float64]:
        """EM and F1 of a row's runs, or its own: shape (runs, 2)."""
        return np.stack([self._points[each] for each in self._members(index)])

    def _mean(self, index: int) -> NDArray[np.float64]:
        return np.asarray(self._values(index).mean(axis=0))

    def _mean_drawn(self, index: int) -> NDArray[np.float64]:
        """A row's EM and F1 in each replicate, shape (replicates, 2)."""
        assert self._drawn is not None
        places = [self._place[each] for each in self._members(index)]
        return np.asarray(np.mean([self._drawn[:, at : at + 2] for at in places], axis=0))

    @staticmethod
    def _widened(
        drawn: NDArray[np.float64],
        mean: NDArray[np.float64],
        groups: Sequence[NDArray[np.float64]],
        within: Interval = (-math.inf, math.inf),
    ) -> list[Interval | None]:
        """The interval of each column of replicates; `groups` are the values of runs, shape (runs, columns)."""
        found: list[Interval | None] = []
        margins = np.stack([margin_of_runs(each) for each in groups], axis=1)
        for (low, high), point, own in zip(intervals_of(drawn), mean.tolist(), margins.tolist(), strict=True):
            wide = widened((low, high), point, own) if any(own) else (low, high)
            found.append((max(within[0], wide[0]), min(within[1], wide[1])))
        return found


def with_differences(row: Row, base: Row) -> Row:
    """`row` with its differences in EM and F1 from `base`; None where one of the two was not measured."""
    return replace(
        row,
        delta_em=None if row.em is None or base.em is None else row.em - base.em,
        delta_f1=None if row.f1 is None or base.f1 is None else row.f1 - base.f1,
    )


def flips(
    own: Outcome,
    base: Outcome,
    answers: Mapping[str, str],
    base_answers: Mapping[str, str],
    examples: Questions,
    count: int,
) -> tuple[Flip, ...]:
    """Up to `count` questions lost against the baseline, and as many won, spread evenly over the data set.

    `answers` and `base_answers` are the answers of both, by question id.
    """

    def flip(example: Example, won: bool) -> Flip:
        gold = tuple(dict.fromkeys(answer.text for answer in example.answers))
        before, after = base_answers[example.id], answers[example.id]
        return Flip(example.id, example.question, example.context, gold, before, after, won)

    won, lost = _flipped(own, base)
    chosen = [(index, False) for index in _spread(lost, count)] + [(index, True) for index in _spread(won, count)]
    return tuple(flip(examples[index], is_won) for index, is_won in chosen)


def _flipped(own: Outcome, base: Outcome) -> tuple[list[int], list[int]]:
    """The positions of the questions that `own` has right and `base` has not, and the reverse."""
    difference = np.asarray(own.question_em) - np.asarray(base.question_em)
    return np.flatnonzero(difference > 0).tolist(), np.flatnonzero(difference < 0).tolist()


def _spread(positions: Sequence[int], count: int) -> list[int]:
    taken = min(count, len(positions))
    return [positions[index * len(positions) // taken] for index in range(taken)]
