"""Why a gate has nothing to judge by: told for what it is, and of whom it is so."""

from dataclasses import replace

import pytest

from compresskit.evaluate.gate import gated, parse_rules
from compresskit.evaluate.row import Dataset, Gate, Report, Row
from compresskit.evaluate.slice import Slice

WHO = {"question": {"who": Slice(50, em=80.0, f1=80.0)}}
BASE = Row("dense", "d", "encoder", "train", True, em=80.0, f1=84.0, em_ci95=(78.0, 82.0), slices=WHO)
HALF = replace(BASE, name="half", baseline=False, latency_ms_p50=9.0, turns={"peak_memory_bytes": [[1.0, 2.0]]})
LOST = Row("lost", "l", "-", "-", False, error="out of memory", error_code=5)
BY_ONE = "not compared with this baseline question by question"


def held(rule: str, row: Row, base: Row = BASE, *, ci95: bool = False) -> Gate:
    report = Report("now", {}, {}, Dataset("d", "0", 100, 50), (base, row))
    (gate,) = gated(report, parse_rules([rule], has_baseline=True, ci95=ci95)).gates
    assert not gate.passed
    return gate


@pytest.mark.parametrize("rule", ["em>=base-1", "em[question=who]>=base-1", "latency<=1.1x", "latency<=9ms", "ppl<=3"])
def test_a_row_that_failed_is_not_the_baselines_fault(rule: str) -> None:
    assert held(rule, LOST).reason == "not scored"


@pytest.mark.parametrize(
    ("rule", "ci95", "reason"),
    [
        ("em[question=whoo]>=base-1", False, "no questions of the slice question=whoo; the values are who"),
        ("em[windows=1]>=50", False, "no slices of windows"),
        ("em[question=who]>=base-1", False, "slices were not compared with the baseline's"),
        ("size<=0.3x", False, "no row has deploy_bytes; gate what these checkpoints have"),
        ("em>=base-1", True, BY_ONE),
        ("f1>=80", True, "one paragraph alone has no interval"),
        ("latency<=1.1x", False, "not measured in turns with the baseline"),
        ("memory<=1x", False, "no row has peak_memory_bytes; gate what these checkpoints have"),
    ],
)
def test_what_is_missing(rule: str, ci95: bool, reason: str) -> None:
    assert held(rule, HALF, ci95=ci95).reason == reason


def test_what_stands_in_the_table_and_is_not_judged() -> None:
    old = "latency_ms_p50 is of an earlier call, which no gate judges"
    assert held("latency<=20ms", replace(HALF, kept=True)).reason == old
    of_one = replace(HALF, peak_memory_bytes=1)
    assert held("memory<=1x", of_one).reason == "measured in one round alone"


def test_a_baseline_that_failed() -> None:
    assert held("em>=base-1", HALF, replace(LOST, baseline=True)).reason == "the baseline could not be scored"


def test_a_report_with_a_row_that_failed_has_not_passed() -> None:
    """A gate on the baseline alone holds, and the exit code is not 0."""
    report = Report("now", {}, {}, Dataset("d", "0", 100, 50), (BASE, HALF))
    rules = parse_rules(["baseline.em>=50"], has_baseline=True)
    assert gated(report, rules).passed
    lost = gated(replace(report, rows=(BASE, LOST)), rules)
    assert ([gate.passed for gate in lost.gates], lost.passed) == ([True], False)
    assert not gated(replace(report, rows=(BASE, LOST)), []).passed
