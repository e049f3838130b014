"""Gates on the mean and on the worst of several runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compresskit.errors import UsageError
from compresskit.evaluate.combine import combined
from compresskit.evaluate.gate import explain, gated, parse, parse_rules
from compresskit.evaluate.row import Gate, Report, Row
from tests.evaluate.several import a_report

REPORT = a_report()
DENSE, SMP, ONE = REPORT.rows


def judged(rule: str, report: Report = REPORT, *, ci95: bool = False) -> dict[str, Gate]:
    """The verdicts of one rule by the names of the rows."""
    gates = gated(report, parse_rules([rule], has_baseline=True, ci95=ci95)).gates
    return {gate.row: gate for gate in gates}


def em(row: Row) -> float:
    assert row.em is not None
    return row.em


def test_the_mean_is_judged_or_the_worst_run() -> None:
    runs = SMP.runs or ()
    least = min(runs, key=em)
    between = (em(least) + em(SMP)) / 2 - em(DENSE)
    assert between < 0
    rule = f"em>=base{between:.6f}"
    assert judged(rule)["smp"].passed
    found = judged(f"{rule}@worst")
    gate = found["smp"]
    assert (gate.verdict, gate.value, gate.run) == ("fails", least.em, least.name)
    assert gate.limit == pytest.approx(em(DENSE) + between, abs=1e-5)
    assert f"@worst fails for smp ({least.name}: " in explain(gate)
    assert (found["one"].passed, found["one"].run, found["one"].value) == (True, None, ONE.em), "its own worst"


def test_what_is_worst_depends_on_the_rule() -> None:
    slowest = max(SMP.runs or (), key=lambda run: run.latency_ms_p50 or 0.0)
    assert judged("latency_ms_p50<=1ms@worst")["smp"].run == slowest.name
    assert judged("latency_ms_p50>=1ms@worst")["smp"].run != slowest.name
    assert judged("baseline.em>=1@worst")["dense"].run == min(DENSE.runs or (), key=em).name


def test_a_run_that_lost_most_to_its_own_seed() -> None:
    worst = min(SMP.runs or (), key=lambda run: run.delta_em or 0.0)
    gate = judged("delta_em>=-1@worst")["smp"]
    assert (gate.value, gate.run) == (worst.delta_em, worst.name)


def test_a_run_without_the_figure_is_the_worst() -> None:
    runs = (replace((SMP.runs or ())[0], latency_ms_p50=None), *(SMP.runs or ())[1:])
    report = replace(REPORT, rows=(DENSE, replace(SMP, runs=runs), ONE))
    gate = judged("latency_ms_p50<=99ms@worst", report)["smp"]
    assert (gate.passed, gate.value, gate.run) == (False, None, runs[0].name)


def test_what_tests_two_checkpoints_is_judged_of_runs() -> None:
    report = replace(REPORT, rows=(DENSE, SMP))
    mean, worst = judged("questions_lost<=0", report)["smp"], judged("questions_lost<=0@worst", report)["smp"]
    assert (mean.passed, mean.reason) == (False, "a mean of runs has no questions_lost; write @worst behind the rule")
    assert worst.value == max(run.questions_lost or 0 for run in SMP.runs or ())
    assert judged("questions_lost<=999@worst", report)["smp"].reason is None


def test_slices_and_alternatives_have_a_worst_run() -> None:
    runs = SMP.runs or ()
    least = min(runs, key=lambda run: (run.slices or {})["parity"]["1"].em or 0.0)
    assert judged("em[parity=1]>=1@worst")["smp"].run == least.name
    rule = parse("latency<=1.1x|+2ms@worst")
    assert rule.worst
    assert rule.otherwise is not None
    assert (rule.otherwise.worst, rule.otherwise.kind, rule.text) == (True, "offset", "latency<=1.1x|+2ms@worst")


def test_the_interval_of_a_mean_or_of_the_worst_run() -> None:
    span = SMP.delta_em_ci95
    assert span is not None
    gate = judged(f"em>=base{span[0] - 0.5:.4f}", ci95=True)["smp"]
    assert gate.verdict == "holds"
    assert gate.value == pytest.approx(em(DENSE) + span[0])
    middle = f"em>=base{(span[0] + span[1]) / 2:.4f}"
    inside = judged(middle, ci95=True)["smp"]
    assert (inside.verdict, inside.questions_needed) == ("undecided", None)
    assert "more runs" in (inside.reason or "")
    assert "more runs" in (judged(f"em>=base{ONE.delta_em or 0.0:.4f}", ci95=True)["one"].reason or "")
    worst = judged(f"{middle}@worst", ci95=True)["smp"]
    run = next(each for each in SMP.runs or () if each.name == worst.run)
    assert run.delta_em_ci95 is not None
    assert run.delta_em is not None
    assert worst.value == pytest.approx(em(run) - run.delta_em + run.delta_em_ci95[0])


@pytest.mark.parametrize("rule", ["em>=1@wrst", "em>=1@", "em>=@worst", "em>=1@mean"])
def test_what_is_no_worst(rule: str) -> None:
    with pytest.raises(UsageError, match=r"write @worst|is not a rule"):
        parse(rule)


def test_saved_runs_are_judged_again_and_combined() -> None:
    saved = Report.from_json(gated(REPORT, [parse("em>=base-1@worst")]).to_json())
    again = combined([saved, saved], ["a.json", "b.json"])
    assert [row.name for row in again.rows] == ["dense", "smp", "one"], "the same rows stand there once"
    assert judged("em>=base-1@worst", again) == judged("em>=base-1@worst")

    other = combined([saved], ["a.json"], "one")
    dense, smp, _ = other.rows
    assert smp.delta_em == pytest.approx(em(SMP) - em(ONE))
    assert [run.delta_em for run in smp.runs or ()] == pytest.approx([em(run) - em(ONE) for run in SMP.runs or ()])
    assert {(run.p_value, run.delta_em_ci95) for run in (smp, *(smp.runs or ()))} == {(None, None)}
    assert set(smp.sd or {}) == {"em", "f1"}
    assert [row.baseline for row in (dense, *(dense.runs or ()))] == [False] * 3
