"""Rows that compute the same as another are told, against the baseline first."""

from dataclasses import replace

import pytest

from compresskit.data.examples import Example
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.report import html, markdown
from compresskit.evaluate.report.table import notes
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.same import AnswersDigest, told_same, with_same
from compresskit.models.answering import Prediction

EXAMPLE = Example("q1", "", "who ?", "rome .", (), True, 0)


def row(name: str, *, baseline: bool = False, deploy: int = 100, em: float = 80.0) -> Row:
    return Row(name, name, "encoder", "train", baseline, em=em, f1=90.0, deploy_bytes=deploy)


def report(*rows: Row) -> Report:
    return Report("2026-01-01T00:00:00+00:00", {}, {}, Dataset("eval.json", "00ff", 10, 3), rows)


def test_by_weights_or_by_answers_and_the_baseline_goes_first() -> None:
    rows = [row("copy"), row("dense", baseline=True), row("onnx"), row("small"), row("coded"), row("failed")]
    outcomes = [
        Outcome(weights_digest="a", answers_digest="1"),
        Outcome(weights_digest="a", answers_digest="2"),
        Outcome(weights_digest=None, answers_digest="2"),
        Outcome(weights_digest="b", answers_digest="3"),
        Outcome(weights_digest="b", answers_digest="4"),
        Outcome(error="broken"),
    ]
    found = with_same(rows, outcomes)
    assert [each.same_as for each in found] == ["dense", None, "dense", None, "small", None]
    assert found[3] == rows[3]


def test_two_files_of_answers_are_not_called_the_same() -> None:
    rows = [row("one", baseline=True), row("two")]
    assert [each.same_as for each in with_same(rows, [Outcome(), Outcome()])] == [None, None]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (row("INT8"), "INT8 computes the same as dense: nothing was compressed in what was measured"),
        (row("coded", deploy=50), "coded computes the same as dense: what was compressed is its files alone"),
        (row("odd", em=10.0), "odd computes with the very weights of dense, and answers otherwise: other files differ"),
    ],
)
def test_it_stands_below_the_table_on_the_page_and_in_json(other: Row, told: str) -> None:
    found = report(row("dense", baseline=True), replace(other, same_as="dense"))
    assert told_same(found) == [told]
    assert told in notes(found)
    assert f"- {told}" in markdown.render(found)
    assert told in html.render(found)
    assert Report.from_json(found.to_json()).rows[1].same_as == "dense"


def test_against_another_row_than_the_baseline_no_verdict_is_told() -> None:
    found = report(row("overlay"), replace(row("merged"), same_as="overlay"))
    assert told_same(found) == ["merged computes the same as overlay"]


def digest(*predictions: Prediction) -> str:
    found = AnswersDigest()
    for each in predictions:
        found.add(EXAMPLE, each)
    return found.result()


def test_scores_count_to_the_last_bit() -> None:
    one = Prediction("q1", "rome", 1.0, 0.5, "rome")
    assert digest(one) == digest(replace(one, n_best=()))
    others = [replace(one, score=1.0 + 2**-52), replace(one, null_score=0.25), replace(one, text="")]
    assert len({digest(one), digest(one, one), *map(digest, others)}) == 5
