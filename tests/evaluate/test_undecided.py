"""Gates that too few questions were asked for, and how many would do."""

import math
from dataclasses import replace

import numpy as np
import pytest

from compresskit.errors import UsageError
from compresskit.evaluate.compare import compared
from compresskit.evaluate.delivery import GateOptions
from compresskit.evaluate.gate import explain, gated, parse, parse_rules
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.report import html, render
from compresskit.evaluate.row import Dataset, Gate, Report, Row
from compresskit.evaluate.undecided import questions_needed

WON, LOST, QUESTIONS = 18, 30, 600
MARGIN = -3.0


def test_the_number_is_that_of_paired_proportions() -> None:
    """Each question a paragraph of its own: the closed form of Connor 1987 and Liu et al. 2002."""
    base = np.r_[np.zeros(WON), np.ones(QUESTIONS - WON)]
    own = np.r_[np.ones(WON), np.zeros(LOST), np.ones(QUESTIONS - WON - LOST)]
    rows = [Row(name, name, "-", "-", name == "b", em=100 * each.mean()) for name, each in (("b", base), ("o", own))]
    places = list(range(QUESTIONS))
    outcomes = [Outcome(question_em=each.tolist(), question_f1=each.tolist(), paragraph=places) for each in (base, own)]
    row = compared(rows, outcomes)[1]
    assert (row.questions_won, row.questions_lost) == (WON, LOST)
    assert row.delta_em is not None
    assert row.delta_em_ci95 is not None
    flipped, difference = (WON + LOST) / QUESTIONS, (WON - LOST) / QUESTIONS
    variance, distance = flipped - difference**2, difference - MARGIN / 100
    expected = (1.959964 + 0.841621) ** 2 * variance / distance**2
    found = questions_needed(row.delta_em, row.delta_em_ci95, MARGIN, QUESTIONS)
    assert found == pytest.approx(expected, rel=0.05)  # the interval is bootstrapped
    assert questions_needed(row.delta_em, row.delta_em_ci95, row.delta_em, QUESTIONS) is None


def test_so_many_questions_decide_in_four_of_five_samples() -> None:
    won, lost = 0.03, 0.05
    variance = won + lost - (won - lost) ** 2
    half = 100 * 1.959964 * math.sqrt(variance / 500)
    needed = questions_needed(-2.0, (-2.0 - half, -2.0 + half), MARGIN, 500)
    assert needed is not None
    rng = np.random.default_rng(0)
    counts = rng.multinomial(needed, [won, lost, 1 - won - lost], size=4000)
    won_, lost_ = counts[:, 0] / needed, counts[:, 1] / needed
    low = won_ - lost_ - 1.959964 * np.sqrt((won_ + lost_ - (won_ - lost_) ** 2) / needed)
    assert float(np.mean(low > MARGIN / 100)) == pytest.approx(0.8, abs=0.03)


BASE = Row("dense", "d", "encoder", "train", True, em=80.0)
SMALL = Row(
    "small", "s", "encoder", "smp", False, em=79.0, em_ci95=(77.0, 81.0), delta_em=-1.0, delta_em_ci95=(-2.0, 0.0)
)
REPORT = Report("now", {}, {}, Dataset("d", "0", 500, 0), (BASE, SMALL))


def held(rule: str, *, ci95: bool = False, undecided: str = "fail") -> Gate:
    options = GateOptions(undecided=undecided)  # type: ignore[arg-type]
    (gate,) = gated(REPORT, parse_rules([rule], has_baseline=True, ci95=ci95), options).gates
    return gate


@pytest.mark.parametrize(
    ("rule", "point", "interval"),
    [
        ("em>=base-3", "holds", "holds"),
        ("em>=base-2", "holds", "holds"),
        ("em>base-2", "holds", "undecided"),
        ("em>=base-1.5", "holds", "undecided"),
        ("em>=base-0.5", "fails", "undecided"),
        ("em>=base+0.1", "fails", "fails"),
        ("delta_em>=-1.5", "holds", "undecided"),
        ("em>=0.98x", "holds", "undecided"),
        ("em>=78", "holds", "undecided"),
        ("em>=76.9", "holds", "holds"),
        ("em<=80", "holds", "undecided"),
        ("em<=76", "fails", "fails"),
    ],
)
def test_verdicts(rule: str, point: str, interval: str) -> None:
    plain, sure = held(rule), held(rule, ci95=True)
    assert (plain.verdict, plain.passed) == (point, point == "holds")
    assert (sure.verdict, sure.passed) == (interval, interval == "holds")
    assert held(rule, ci95=True, undecided="pass").passed == (interval != "fails")
    # A limit inside the interval is remarked of either.
    is_inside = interval == "undecided"
    for gate in (plain, sure):
        assert (gate.reason is not None, "would decide" in explain(gate)) == (is_inside, is_inside)
        assert gate.questions_needed is None or gate.questions_needed > 1000


def test_it_is_told() -> None:
    gate = held("em>=base-1.5", ci95=True)
    assert gate.questions_needed == 4087
    told = "the limit lies inside the 95 % interval 78.00 to 80.00; some 4,100 questions would decide"
    assert explain(gate) == (f"em>=base-1.5 is undecided for small (end of the 95 % interval 78, limit 78.5; {told})")
    remarked = held("em>=base-1.5")
    assert explain(remarked) == f"em>=base-1.5 holds for small (79, limit 78.5; {told})"
    same = held("em>=base-1", ci95=True)
    assert (same.verdict, same.questions_needed) == ("undecided", None)
    assert "no number of questions tells a figure from its equal" in explain(same)


@pytest.mark.parametrize(("undecided", "passed"), [("fail", False), ("pass", True)])
def test_every_format_has_the_verdict(undecided: str, passed: bool) -> None:
    gate = held("em>=base-1.5", ci95=True, undecided=undecided)
    report = replace(REPORT, gates=(gate,), passed=gate.passed)
    assert gate.passed is passed
    markdown, junit = render(report, "markdown"), render(report, "junit")
    assert f"- ❔ {explain(gate)}" in str(markdown)
    assert ('type="undecided"' in str(junit), "<system-out>" in str(junit)) == (not passed, passed)
    page = html.render(report)
    assert "? undecided</td>" in page
    assert ("1 of 1 gate failed" in page, "some 4,100 questions" in page) == (not passed, True)
    again = Report.from_json(report.to_json())
    assert again.gates == (gate,)
    old = report.to_json().replace('"verdict": "undecided",', "")
    assert Report.from_json(old).gates[0].verdict == ("holds" if passed else "fails")


def test_options_without_effect() -> None:
    with pytest.raises(UsageError, match="--undecided pass has no effect without --gate-ci"):
        GateOptions(undecided="pass").check_effect([parse("em>=3")])
    GateOptions(undecided="pass").check_effect(parse_rules(["em>=3"], has_baseline=False, ci95=True))
    with pytest.raises(UsageError, match="--allow-weak-baseline has no effect"):
        GateOptions(allow_weak_baseline=True).check_effect([parse("em>=3"), parse("baseline.em>=3")])
    GateOptions(allow_weak_baseline=True).check_effect([parse("delta_em>=-3")])
    with pytest.raises(UsageError, match="--undecided maybe"):
        GateOptions(undecided="maybe")  # type: ignore[arg-type]


def test_an_interval_ends_where_the_figure_does() -> None:
    """No EM is above 100, so a limit above that fails, and is not undecided."""
    base = replace(REPORT.rows[0], em=99.5)
    row = replace(REPORT.rows[1], em=99.5, delta_em=0.0, delta_em_ci95=(-1.5, 1.5))
    report = replace(REPORT, rows=(base, row))
    verdicts = gated(report, parse_rules(["em>=base+0.3", "em>=base+0.7"], has_baseline=True, ci95=True)).gates
    assert [gate.verdict for gate in verdicts] == ["undecided", "fails"]
    assert "the 95 % interval 98.00 to 100.00;" in explain(verdicts[0])
