"""Gates on time and memory: judged by what was measured in turns, or now, and undecided where the rounds differ."""

from dataclasses import replace
from typing import Any

import pytest

from compresskit.errors import UsageError
from compresskit.evaluate.combine import combined
from compresskit.evaluate.delivery import GateOptions
from compresskit.evaluate.gate import explain, gated, parse, parse_rules
from compresskit.evaluate.row import Dataset, Gate, Report, Row
from compresskit.evaluate.timed import needs_new_rows, plan_of
from compresskit.evaluate.turns import Plan

BASE = Row("dense", "dense", "encoder", "train", True, em=80.0, latency_ms_p50=54.0, sha256="a")
HALF = replace(BASE, name="half", path="half", baseline=False, latency_ms_p50=83.0, sha256="b")
REPORT = Report("now", {}, {}, Dataset("d", "0", 10, 5), (BASE, HALF))

STEADY = [[10.5, 10.0], [21.0, 20.0], [10.5, 10.0], [10.5, 10.0], [10.5, 10.0], [10.5, 10.0]]
WILD = [[10.0, 10.0], [20.0, 10.0], [12.0, 10.0], [12.0, 10.0], [12.0, 10.0], [12.0, 10.0]]  # 1.2x, spread 0.42
SHORT = [[1.5, 1.0]] * 6


def verdict(rule: str, turns: list[list[float]], **more: Any) -> Gate:
    row = replace(HALF, turns={"latency_ms_p50": turns}, **more)
    (gate,) = gated(replace(REPORT, rows=(BASE, row)), parse_rules([rule], has_baseline=True)).gates
    assert (gate.rule, gate.passed) == (rule, gate.verdict == "holds")
    return gate


@pytest.mark.parametrize(
    ("rule", "turns", "said"),
    [
        ("latency<=1.1x", STEADY, "holds"),  # by the figures of the rows, 83 and 54 ms, it would fail
        ("latency<=1.04x", STEADY, "fails"),
        ("latency<=base+1ms", STEADY, "holds"),
        ("latency<=base+0.1ms", STEADY, "fails"),
        ("latency<=1.1x", WILD, "undecided"),
        ("latency<=1.5x", WILD, "undecided"),
        ("latency<=0.6x", WILD, "fails"),
        ("latency<=1.8x", WILD, "holds"),
        ("latency<=1.1x", [], "fails"),
        ("latency<=1.1x", [[1.0, 1.0]], "fails"),  # one round tells nothing of how much rounds differ
        ("latency<=1.1x|+2ms", SHORT, "holds"),
        ("latency<=1.1x|+0.4ms", SHORT, "fails"),
        ("latency<=1.1x | base+2ms", SHORT, "holds"),
        ("latency<=2x|+0.1ms", SHORT, "holds"),
        ("latency<=0.6x|+3ms", WILD, "undecided"),
        ("latency<=1.1x|+20ms", WILD, "holds"),
    ],
)
def test_verdicts(rule: str, turns: list[list[float]], said: str) -> None:
    gate = verdict(rule, turns)
    assert gate.verdict == said
    assert explain(gate).startswith(f"{rule} {'is undecided' if said == 'undecided' else said} for half (")
    assert ("more --rounds" in explain(gate)) == (said == "undecided")


def test_the_limit_that_holds_is_told_where_the_other_passes_undecided() -> None:
    row = replace(HALF, turns={"latency_ms_p50": WILD})
    rules, options = [parse("latency<=1.1x|+20ms")], GateOptions(undecided="pass")
    (gate,) = gated(replace(REPORT, rows=(BASE, row)), rules, options).gates
    assert (gate.verdict, gate.passed, gate.limit) == ("holds", True, 30.0)


def test_the_figures_of_a_verdict() -> None:
    gate = verdict("latency<=1.1x", WILD)
    assert [gate.value, gate.limit, gate.spread] == pytest.approx([12.0, 11.0, 5 / 12])
    assert "(12.0 ms, limit 11.0 ms; measured in turns, spread 41.7 %;" in explain(gate)
    assert Gate(**gate.to_dict()) == gate


def test_figures_of_an_earlier_call_are_never_judged() -> None:
    assert verdict("latency<=90ms", []).passed
    gate = verdict("latency<=90ms", [], kept=True)
    assert (gate.passed, gate.value) == (False, None)
    assert verdict("em>=80", [], kept=True).passed
    assert verdict("latency<=1.1x", STEADY, kept=True).passed


@pytest.mark.parametrize(
    ("rules", "rounds", "figures", "anew"),
    [
        (["em>=base-1", "size<=0.5x", "size<=3MB"], None, None, False),
        (["latency<=1.1x"], None, {"latency_ms_p50"}, False),
        (["latency<=20ms", "memory<=1GB"], None, None, True),
        (["latency_ms_p95<=base+2ms", "questions_per_s>=0.9x"], None, {"latency_ms_p95", "questions_per_s"}, False),
        (["memory<=0.5x|100MB"], None, {"peak_memory_bytes"}, True),
        (["em>=80"], 8, {"latency_ms_p50", "questions_per_s"}, False),
    ],
)
def test_what_is_measured_for_which_rules(
    rules: list[str], rounds: int | None, figures: set[str] | None, anew: bool
) -> None:
    parsed = parse_rules(rules, has_baseline=True)
    expected = None if figures is None else Plan(rounds or 6, frozenset(figures))
    assert (plan_of(parsed, rounds), needs_new_rows(parsed)) == (expected, anew)


def test_processes_of_a_launcher_take_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert plan_of([parse("size<=0.5x")], None) is None
    with pytest.raises(UsageError, match="measures in turns, as one process can"):
        plan_of([parse("latency<=1.1x")], None)


@pytest.mark.parametrize("rule", ["latency<=1.1x|", "latency<=1.1x|2furlongs", "latency<=|2ms", "latency<=1x|2x|3x|"])
def test_what_is_no_alternative(rule: str) -> None:
    with pytest.raises(UsageError, match="--gate"):
        parse(rule)


def test_an_alternative_of_a_slice_and_of_an_interval() -> None:
    rule = parse("""em[topic="a|b"]>=0.9x|-2""")
    assert rule.otherwise is not None
    assert rule.part is not None
    assert (rule.part.key, rule.part.value) == ("topic", "a|b")
    assert rule.otherwise.part == rule.part
    assert (rule.kind, rule.otherwise.kind, rule.otherwise.number) == ("ratio", "offset", -2.0)
    (rule,) = parse_rules(["em>=0.9x|-2"], has_baseline=True, ci95=True)
    assert rule.otherwise is not None
    assert (rule.ci95, rule.otherwise.ci95) == (True, True)


def test_an_alternative_may_need_a_baseline() -> None:
    with pytest.raises(UsageError, match="--baseline"):
        parse_rules(["latency<=20ms|+2ms"], has_baseline=False)


def test_a_row_compared_with_another_baseline_loses_what_was_paired() -> None:
    row = replace(HALF, turns={"latency_ms_p50": STEADY})
    report = combined([replace(REPORT, rows=(BASE, row, replace(HALF, name="other", em=1.0)))], ["a.json"], "other")
    assert report.rows[1].turns == {}
    assert not gated(report, [parse("latency<=1.1x")]).gates[1].passed
