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
from compresskit.evaluate.row import Flip, Row
from compresskit.evaluate.stats import bootstrap_intervals, mcnemar


def compared(rows: Sequence[Row], outcomes: Sequence[Outcome], nothing: NDArray[np.float64] | None = None) -> list[Row]:
    """`rows` with the intervals of EM and F1 and, where one is the baseline, their differences from it.

    Differences are in points and paired: both checkpoints on the same questions. Their intervals are bootstrapped over
    paragraphs, all with the same draws; `p_value` is McNemar's exact one. `outcomes` hold the scores of the
    questions one by one; a row whose outcome has none stays as it is. `nothing` holds the scores of answering nothing,
    shape (questions, 2): with it, each row says whether it beats that.
    """
    base = next((index for index, row in enumerate(rows) if row.baseline), None)
    scored = [index for index, outcome in enumerate(outcomes) if len(outcome.question_em)]
    if not scored:
        return list(rows)
    scores = {index: np.array([outcomes[index].question_em, outcomes[index].question_f1]).T for index in scored}
    columns = [scores[index] for index in scored]
    against = [index for index in scored if base in scores and index != base]
    columns += [scores[index] - scores[base] for index in against if base is not None]
    columns += [] if nothing is None else [scores[index][:, :1] - nothing[:, :1] for index in scored]
    found = iter(bootstrap_intervals(np.concatenate(columns, axis=1), np.array(outcomes[scored[0]].paragraph)))
    result = list(rows)
    for index in scored:
        result[index] = replace(rows[index], em_ci95=next(found), f1_ci95=next(found))
    for index in against:
        if base is not None:
            won, lost = _flipped(outcomes[index], outcomes[base])
            result[index] = replace(
                with_differences(result[index], rows[base]),
                delta_em_ci95=next(found),
                delta_f1_ci95=next(found),
                questions_won=len(won),
                questions_lost=len(lost),
                p_value=mcnemar(won=len(won), lost=len(lost)),
            )
    if nothing is not None:
        for index in scored:
            beats = beats_nothing(scores[index][:, 0], nothing[:, 0], next(found))
            result[index] = replace(result[index], beats_nothing=beats)
    if base in scores and base is not None:
        result[base] = with_differences(result[base], rows[base])
    return result


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
