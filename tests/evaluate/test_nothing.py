"""Answering nothing at all: its score, the rows that do not beat it, and gates that it would hold."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compresskit.data.examples import Answer, Example
from compresskit.evaluate.compare import compared
from compresskit.evaluate.delivery import GateOptions
from compresskit.evaluate.gate import explain, gated, parse
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.nothing import answering_nothing, as_figures
from compresskit.evaluate.report import html, render
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.score import score
from compresskit.evaluate.slice import Slice
from compresskit.models.answering import Prediction


def asked(golds: list[tuple[str, ...]]) -> list[Example]:
    return [
        Example(str(number), "", "Who?", "Rome.", tuple(Answer(text, -1) for text in texts), not texts, number // 2)
        for number, texts in enumerate(golds)
    ]


def test_it_is_the_score_of_empty_answers() -> None:
    examples = asked([("Rome",), (), ("the", "a"), (), ("The", "Rome"), ("3",)])
    empty = {each.id: Prediction(each.id, "", None, None, "") for each in examples}
    official = score(examples, empty)
    found = answering_nothing(examples)
    assert (found[:, 0].tolist(), found[:, 1].tolist()) == (
        official.question_em.tolist(),
        official.question_f1.tolist(),
    )
    assert as_figures(found) == {"em": official.em, "f1": official.f1} == {"em": 50.0, "f1": 50.0}
    # Of the articles of another language something is left.
    assert answering_nothing(examples, "mlqa:de")[:, 0].sum() == 2


NOTHING = np.tile([1.0, 0.0], 40)


def a_row(em: Any, paragraph: list[int]) -> Row:
    outcome = Outcome(question_em=list(em), question_f1=list(em), paragraph=paragraph)
    row = Row("one", "one", "encoder", "-", False, em=100 * float(np.mean(em)))
    return compared([row], [outcome], np.stack([NOTHING, NOTHING], axis=1))[0]


@pytest.mark.parametrize(
    ("em", "beats", "alone"),
    [
        (NOTHING, False, False),
        (1 - NOTHING, False, False),  # as many right, but others
        (np.ones(80), True, None),
        (np.where(np.arange(80) == 1, 1.0, NOTHING), False, None),  # one question more may be chance
        (np.zeros(80), False, False),
    ],
)
def test_a_row_beats_it_by_its_paired_interval(em: Any, beats: bool, alone: bool | None) -> None:
    assert a_row(em, [index // 4 for index in range(80)]).beats_nothing is beats
    assert a_row(em, [0] * 80).beats_nothing is alone, "one paragraph has no interval"


DENSE = Row("dense", "d", "encoder", "train", True, em=80.0, f1=84.0, deploy_bytes=1000, beats_nothing=True)
SMALL = replace(DENSE, name="small", baseline=False, em=79.5, deploy_bytes=500, delta_em=-0.5)
WEAK = replace(DENSE, em=50.0, f1=50.0, beats_nothing=False)
DATA = Dataset("d", "0", 1000, 500, nothing={"em": 50.0, "f1": 51.0})


def verdict(rule: str, base: Row = DENSE, row: Row = SMALL, **options: Any) -> tuple[bool, str]:
    report = Report("now", {}, {}, DATA, (base, row))
    (gate,) = gated(report, [parse(rule)], GateOptions(**options)).gates
    assert gate.verdict == ("holds" if gate.passed else "fails")
    return gate.passed, explain(gate)


@pytest.mark.parametrize("rule", ["em>=base-1", "size<=0.9x", "delta_em>=-1", "f1>=0.9x", "em<=base+40"])
def test_a_comparison_with_a_weak_baseline_fails(rule: str) -> None:
    assert verdict(rule) == (True, verdict(rule)[1])
    passed, told = verdict(rule, WEAK)
    assert not passed
    assert "the baseline dense does not beat answering nothing" in told
    assert told.endswith("or add --allow-weak-baseline)")
    assert verdict(rule, WEAK, allow_weak_baseline=True)[0]


def test_other_gates_know_no_baseline() -> None:
    assert verdict("em>=79", WEAK) == (True, "em>=79 holds for small (79.5, limit 79)")
    assert verdict("baseline.em>=70", WEAK) == (False, "baseline.em>=70 fails for dense (50, limit 70)")
    assert verdict("baseline.size<=1kB") == (True, "baseline.size<=1kB holds for dense (1.00 kB, limit 1.00 kB)")


@pytest.mark.parametrize(
    ("rule", "passed"),
    [
        ("em>=base-30", False),  # 50 is what nothing has
        ("em>base-30", True),
        ("em>=base-30.1", False),
        ("em>=base-29.9", True),
        ("em>=0.5x", False),
        ("f1>=base-33", False),
        ("f1>=base-32.9", True),
        ("delta_em>=-31", False),
        ("delta_em>=-29", True),
        ("has_ans_em>=base-71", False),
        ("no_ans_em>=base-2", True),  # where nothing is best
        ("em<=base+1", True),
    ],
)
def test_a_relative_limit_that_nothing_holds_is_none(rule: str, passed: bool) -> None:
    base = replace(DENSE, has_ans_em=70.0, no_ans_em=90.0)
    found, told = verdict(rule, base, replace(SMALL, has_ans_em=70.0, no_ans_em=90.0))
    assert found is passed
    assert ("answering nothing at all" in told) is not passed
    assert verdict(rule, base, replace(SMALL, has_ans_em=70.0, no_ans_em=90.0), undecided="fail")[0] is passed


@pytest.mark.parametrize("rule", ["em[question=who]>=base-81", "em[question=who]>=0x", "no_ans_em>=base-91"])
def test_a_relative_limit_of_zero_is_none(rule: str) -> None:
    """It cannot fail, also where what answering nothing has is not known, or is best."""
    slices = {"question": {"who": Slice(500, em=79.0, f1=79.0, delta_em=-1.0, delta_f1=0.0)}}
    row = replace(SMALL, no_ans_em=90.0, slices=slices)
    found, told = verdict(rule, replace(DENSE, no_ans_em=90.0), row)
    assert not found
    assert told.endswith("; even 0 would hold it; set a limit above that)")
    assert verdict("em[question=who]>=base-79", DENSE, row) == (
        True,
        "em[question=who]>=base-79 holds for small (79, limit 1)",
    )
    assert verdict("em[question=who]>=0", DENSE, row) == (
        True,
        "em[question=who]>=0 holds for small (79, limit 0; even 0 would hold it)",
    )


def test_without_unanswerable_questions_nothing_is_zero() -> None:
    data = replace(DATA, unanswerable=0, nothing={"em": 0.0, "f1": 0.0})
    low = replace(DENSE, em=0.5)
    rows = (low, replace(SMALL, em=0.0))
    (gate,) = gated(Report("now", {}, {}, data, rows), [parse("em>=base-1")]).gates
    assert (gate.passed, gate.limit) == (False, -0.5)
    assert "answering nothing at all (0.00) would hold it too" in explain(gate)


def test_an_absolute_limit_that_nothing_holds_is_remarked() -> None:
    assert verdict("em>=45") == (
        True,
        "em>=45 holds for small (79.5, limit 45; answering nothing at all (50.00) would hold it too)",
    )


def test_reports_tell_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    from compresskit import console

    report = Report("now", {}, {}, DATA, (DENSE, replace(SMALL, beats_nothing=False)))
    console.out(render(report, "table"))
    markdown = render(report, "markdown")
    assert isinstance(markdown, str)
    for text in (capsys.readouterr().out, markdown):
        assert "answering nothing at all: EM 50.00, F1 51.00" in text
        assert "† EM does not beat answering nothing by its paired 95 % interval: small" in text
        assert ("small †" in text, "dense (baseline) †" in text) == (True, False)
    page = html.render(report)
    assert "EM 50.00, F1 51.00" in page
    assert page.count("no better than nothing</span>") == 1
    again = Report.from_json(report.to_json())
    assert (again.dataset.nothing, again.rows[1].beats_nothing) == (DATA.nothing, False)
