"""What sets checkpoints apart: intervals, paired differences from the baseline, and the questions that flip."""

from __future__ import annotations

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
from compresskit.evaluate.stats import bootstrap_means, drawn_shares, intervals_of, mcnemar


def compared(
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    nothing: NDArray[np.float64] | None = None,
    layout: Layout | None = None,
) -> list[Row]:
    """`rows` with the intervals of EM and F1 and, where one is the baseline, their differences from it.

    Differences are in points and paired: both checkpoints on the same questions. Their intervals are bootstrapped over
    paragraphs, all with the same draws; those of a mean of several runs over the runs too. `p_value` is McNemar's exact
    one, which is of two checkpoints: where a mean takes part there is none, and no question is won or lost. `outcomes`
    hold the scores of the questions one by one; a row whose outcome has none stays as it is. `nothing` holds the scores
    of answering nothing, shape (questions, 2): with it, each row says whether it beats that. `layout` says which rows
    are means, and what each is compared with.
    """
    layout = layout or Layout.of(rows)
    scored = [index for index, outcome in enumerate(outcomes) if len(outcome.question_em)]
    if not scored:
        return list(rows)
    draws = _Draws(rows, outcomes, scored, layout, nothing)
    result = list(rows)
    for index in scored:
        em, f1 = draws.intervals(draws.of(index))
        result[index] = replace(rows[index], em_ci95=em, f1_ci95=f1)
        if nothing is not None:
            beats = beats_nothing(np.asarray(outcomes[index].question_em), nothing[:, 0], draws.above_nothing(index))
            result[index] = replace(result[index], beats_nothing=beats)
    for index, base in layout.versus.items():
        if index in scored and base in scored:
            em, f1 = draws.intervals(draws.difference(index, base))
            result[index] = with_differences(replace(result[index], delta_em_ci95=em, delta_f1_ci95=f1), rows[base])
            if layout.is_single(index) and layout.is_single(base):
                result[index] = _tested(result[index], outcomes[index], outcomes[base])
    if layout.base in scored and layout.base is not None:
        result[layout.base] = with_differences(result[layout.base], rows[layout.base])
    return result


def _tested(row: Row, own: Outcome, base: Outcome) -> Row:
    won, lost = (len(flipped) for flipped in _flipped(own, base))
    return replace(row, questions_won=won, questions_lost=lost, p_value=mcnemar(won=won, lost=lost))


class _Draws:
    """The mean EM and F1 of every row in each replicate of one bootstrap, shape (replicates, 2).

    None with one paragraph, from which nothing can be drawn. All rows share the draws of paragraphs. A mean draws its
    runs beside them; where it is compared in pairs, a run and that of the baseline are drawn together.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        outcomes: Sequence[Outcome],
        scored: Sequence[int],
        layout: Layout,
        nothing: NDArray[np.float64] | None,
    ) -> None:
        self._rows, self._layout = rows, layout
        singles = [index for index in scored if layout.is_single(index)]
        columns = [np.array([outcomes[index].question_em, outcomes[index].question_f1]).T for index in singles]
        columns += [] if nothing is None else [nothing[:, :1]]
        means = bootstrap_means(np.concatenate(columns, axis=1), np.array(outcomes[scored[0]].paragraph))
        self._means = means
        if means is not None:
            self._of = {index: means[:, 2 * at : 2 * at + 2] for at, index in enumerate(singles)}

    def of(self, index: int) -> NDArray[np.float64] | None:
        """A row's own figures in each replicate."""
        if self._means is None:
            return None
        return self._of[index] if self._layout.is_single(index) else self._weighted(index, self._of)

    def difference(self, index: int, base: int) -> NDArray[np.float64] | None:
        """A row's figures less the baseline's in each replicate."""
        own, other = self.of(index), self.of(base)
        if own is None or other is None:
            return None
        if (pairs := self._layout.pairs.get(index)) is None:
            return own - other
        return self._weighted(index, {run: self._of[run] - self._of[pair] for run, pair in pairs.items()})

    def above_nothing(self, index: int) -> Interval | None:
        """The interval of a row's EM less that of answering nothing."""
        own = self.of(index)
        if own is None or self._means is None:
            return None
        return intervals_of(own[:, :1] - self._means[:, -1:])[0]

    @staticmethod
    def intervals(means: NDArray[np.float64] | None) -> list[Interval | None]:
        """The intervals of EM and F1 that the replicates have."""
        return [None, None] if means is None else intervals_of(means)

    def _weighted(self, mean: int, of_runs: Mapping[int, NDArray[np.float64]]) -> NDArray[np.float64]:
        """The mean over the runs that a replicate draws. Runs go by their names: their order decides nothing."""
        runs = sorted(self._layout.runs[mean], key=lambda run: self._rows[run].name)
        shares = drawn_shares(len(runs), [1, *self._rows[mean].name.encode()])
        found: NDArray[np.float64] = np.einsum("nr,rnc->nc", shares, np.stack([of_runs[run] for run in runs]))
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
