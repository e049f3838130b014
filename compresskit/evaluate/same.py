"""Rows that compute the same as another: there, nothing was compressed in what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from compresskit.data.examples import Example
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import with_runs

if TYPE_CHECKING:
    from compresskit.models.answering import Prediction


class AnswersDigest:
    """A hash over every answer with its scores, in the order in which they are added."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, example: Example, prediction: Prediction) -> None:
        """Add an answer: its text and, to the last bit, its score and its null score."""
        said = (example.id, prediction.text, prediction.score, prediction.null_score)
        self._digest.update(f"{said!r}\n".encode())

    def result(self) -> str:
        """Hex SHA-256 of all that was added."""
        return self._digest.hexdigest()


def with_same(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> list[Row]:
    """`rows` with the name of the row that each computes the same as: of the baseline, else of the first such row.

    Two do where their effective weights are equal, or every answer and score.
    """
    order = sorted(range(len(rows)), key=lambda index: not rows[index].baseline)
    result = list(rows)
    for place, index in enumerate(order):
        same = next((other for other in order[:place] if _alike(outcomes[index], outcomes[other])), None)
        if same is not None:
            result[index] = replace(rows[index], same_as=rows[same].name)
    return result


def _alike(one: Outcome, other: Outcome) -> bool:
    by_weights = one.weights_digest is not None and one.weights_digest == other.weights_digest
    return by_weights or (one.answers_digest is not None and one.answers_digest == other.answers_digest)


def told_same(report: Report) -> list[str]:
    """A line for each row that computes the same as another; of a mean that does, its runs need none."""
    rows = {row.name: row for row in with_runs(report.rows)}
    found: list[str] = []
    for row in report.rows:
        own = {run.name for run in row.runs or ()}
        told = [row] if row.same_as in rows or row.runs is None else row.runs
        found += [_told(each, rows[each.same_as]) for each in told if each.same_as in rows.keys() - own]
    return found


def _told(row: Row, other: Row) -> str:
    if (row.em, row.f1) != (other.em, other.f1):  # another tokenizer, say
        return f"{row.name} computes with the very weights of {other.name}, and answers otherwise: other files differ"
    line = f"{row.name} computes the same as {other.name}"
    if not other.baseline:
        return line
    if row.deploy_bytes is not None and other.deploy_bytes is not None and row.deploy_bytes < 0.95 * other.deploy_bytes:
        return f"{line}: what was compressed is its files alone"
    return f"{line}: nothing was compressed in what was measured"
