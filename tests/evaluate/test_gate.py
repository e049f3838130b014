"""Gates: what a rule means, what it refuses, and that nothing unmeasured passes."""

from dataclasses import fields, replace

import pytest

from compresskit.errors import UsageError
from compresskit.evaluate.gate import explain, gated, parse, parse_rules
from compresskit.evaluate.row import Dataset, Gate, Report, Row

BASE = Row(
    "dense",
    "runs/dense",
    "encoder",
    "train",
    True,
    em=80.0,
    f1=85.0,
    deploy_bytes=1000,
    latency_ms_p50=10.0,
    metrics={"bleu": 14.0},
)
SMALL = replace(
    BASE,
    name="small",
    baseline=False,
    em=79.2,
    f1=83.0,
    deploy_bytes=300,
    latency_ms_p50=21.5,
    metrics={"bleu": 13.0},
    turns={"latency_ms_p50": [[21.5, 10.0]] * 6},
)
REPORT = Report("now", {}, {}, Dataset("d", "0", 10, 5), (BASE, SMALL))


@pytest.mark.parametrize(
    ("rule", "passed", "limit"),
    [
        ("em>=79", True, 79.0),
        ("em>=79.2", True, 79.2),
        ("em>79.2", False, 79.2),
        ("em>=base-1.0", True, 79.0),
        ("em >= base - 0.5", False, 79.5),
        ("em>=base", False, 80.0),
        ("f1<base+1", True, 86.0),
        ("size<=0.3x", True, 300.0),
        ("size<0.3x", False, 300.0),
        ("deploy_bytes<=0.2kB", False, 200.0),
        ("size<=1KiB", True, 1024.0),
        ("size<=base-650B", True, 350.0),
        ("latency<=20ms", False, 20.0),
        ("latency<=0.03s", True, 30.0),
        ("latency<=2.5x", True, 25.0),
        ("delta_em>=-1", False, -1.0),
        ("bleu>=12.5", True, 12.5),
        ("bleu>=base", False, 14.0),
    ],
)
def test_verdicts(rule, passed, limit):
    (gate,) = gated(REPORT, [parse(rule)]).gates
    assert (gate.rule, gate.row, gate.passed) == (rule, "small", passed)
    assert gate.limit == pytest.approx(limit)


def test_the_baseline_is_not_held_against_itself():
    report = gated(REPORT, [parse("em>=base-1"), parse("size<=0.1x")])
    assert [(gate.row, gate.passed) for gate in report.gates] == [("small", True), ("small", False)]
    assert not report.passed
    assert gated(REPORT, [parse("em>=base-1")]).passed
    assert gated(REPORT, []).passed


@pytest.mark.parametrize("rule", ["memory<=1GB", "memory<=2x", "memory<=base", "rougeL>=0", "p_value<=1"])
def test_what_was_not_measured_fails(rule):
    (gate,) = gated(REPORT, [parse(rule)]).gates
    assert not gate.passed
    assert gate.value is None
    assert "not measured" in explain(gate)


@pytest.mark.parametrize(
    ("rule", "value", "limit", "told"),
    [
        ("size<=0.3x", 48.2e6, 27.3e6, "48.2 MB, limit 27.3 MB"),
        ("size<=27.3MB", 27_300_001.0, 27_300_000.0, "27300001 B, limit 27300000 B"),  # else they would look the same
        ("latency<=20ms", 21.0, 20.0, "21.0 ms, limit 20.0 ms"),
        ("latency<=20ms", 20.02, 20.0, "20.02 ms, limit 20 ms"),
        ("em>=base-1", 77.5, 80.0, "77.5, limit 80"),
        ("memory<=1GB", None, 1e9, "not measured, limit 1.00 GB"),
    ],
)
def test_a_verdict_tells_figures_in_their_units(rule, value, limit, told):
    assert explain(Gate(rule, "small", False, value, limit)) == f"{rule} fails for small ({told})"


def test_a_baseline_that_was_not_measured_fails_the_others():
    (gate,) = gated(replace(REPORT, rows=(replace(BASE, em=None), SMALL)), [parse("em>=base-50")]).gates
    assert (gate.passed, gate.value, gate.limit) == (False, 79.2, None)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("em", "is not a rule"),
        ("em=80", "is not a rule"),
        ("em>=", "is not a rule"),
        ("name>=3", "there is no figure 'name'"),
        ("exact>=3", "there is no figure 'exact'"),
        ("em>=eighty", "is not a limit"),
        ("em>=base-", "is not a limit"),
        ("em>=base1", "is not a limit"),
        ("em>=80ms", "'ms' is not a unit of em; it has none"),
        ("size<=20ms", "'ms' is not a unit of deploy_bytes; use B, kB, MB"),
        ("latency<=20MB", "'MB' is not a unit of latency_ms_p50; use ms, s"),
        ("size<=base-0.3x", "'x' is not a unit of deploy_bytes"),
        ("best_em>=80", "chosen on the very questions"),
        ("best_null_threshold>=0", "--null-threshold auto --tune-data"),
        ("delta_em>=base-1", "is a difference from the baseline already"),
        ("delta_f1>=0.9x", "is a difference from the baseline already"),
        ("error_code>=1", "there is no figure 'error_code'"),
        ("em_ci95>=1", "there is no figure 'em_ci95'"),
    ],
)
def test_what_is_no_rule(rule, words):
    with pytest.raises(UsageError, match="--gate") as caught:
        parse(rule)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_that_needs_a_baseline():
    assert parse_rules(["em>=80"], has_baseline=False)[0].metric == "em"
    for rule in ("em>=base-1", "size<=0.5x"):
        assert parse_rules([rule], has_baseline=True)
        with pytest.raises(UsageError, match="--baseline"):
            parse_rules([rule], has_baseline=False)


INTERVALS = replace(SMALL, em_ci95=(77.0, 81.5), delta_em_ci95=(-1.6, 0.1), delta_em=-0.8, delta_f1_ci95=(-3.0, -1.0))


@pytest.mark.parametrize(
    ("rule", "passed", "value"),
    [
        ("em>=base-1.5", False, 78.4),  # the point holds, and so would the interval at -1.7
        ("em>=base-1.7", True, 78.4),
        ("em>=0.98x", True, 78.4),
        ("em<=base+0.05", False, 80.1),
        ("em>=78", False, 77.0),
        ("em>=77", True, 77.0),
        ("em<=81", False, 81.5),
        ("f1>=base-2", False, 82.0),
        ("size<=0.3x", True, 300.0),  # bytes are counted, not sampled: the point stands
        ("f1>=80", False, None),  # it has no interval
    ],
)
def test_the_interval_has_to_hold(rule, passed, value):
    (gate,) = gated(replace(REPORT, rows=(BASE, INTERVALS)), parse_rules([rule], has_baseline=True, ci95=True)).gates
    assert (gate.passed, gate.ci95) == (passed, not rule.startswith("size"))
    assert gate.value == (None if value is None else pytest.approx(value))
    assert ("interval" in explain(gate)) == gate.ci95
    assert ("no interval" in explain(gate)) == (gate.ci95 and value is None)


def test_an_interval_that_does_not_exist():
    for name in ("has_ans_em", "bleu", "ppl"):
        with pytest.raises(UsageError, match=f"{name} has no interval"):
            parse_rules([f"{name}>=3"], has_baseline=False, ci95=True)
    with pytest.raises(UsageError, match="--gate-ci"):
        parse_rules([], has_baseline=False, ci95=True)


def test_every_figure_can_be_gated():
    """All the numbers of a row but those that were chosen on the evaluated questions, or are no measure."""
    numbers = {field.name for field in fields(Row) if str(field.type) in ("float | None", "int | None")}
    measures = numbers - {"best_em", "best_null_threshold", "null_threshold", "error_code"}
    assert {"em", "f1", "delta_f1", "zstd_bytes", "load_s", "questions_lost", "questions_per_s"} <= measures
    for name in measures:
        assert parse(f"{name}>=1").metric == name
    with pytest.raises(UsageError) as caught:
        parse("nonsense>=1")
    named = str(caught.value).rpartition("take one of ")[2].split(", ")
    assert set(named) == measures | {
        "size",
        "memory",
        "latency",
        "bleu",
        "rouge1",
        "rouge2",
        "rougeL",
        "ppl",
        "blind.em",
        "blind.f1",
    }
    assert len(named) == len(set(named))


def test_a_gate_that_judges_nothing_does_not_hold():
    with pytest.raises(UsageError, match="no row to judge but the baseline"):
        gated(replace(REPORT, rows=(BASE,)), [parse("em>=1")])
    assert gated(replace(REPORT, rows=(BASE,)), []).passed


def test_a_row_is_held_against_the_baseline_of_its_own_machine():
    gpu, cpu = {"kind": "cuda", "name": "a"}, {"kind": "cpu", "name": "b"}
    slow = replace(BASE, name="dense (cpu)", deploy_bytes=100, device=cpu)
    rows = [replace(BASE, device=gpu, deploy_bytes=10), replace(SMALL, device=gpu, deploy_bytes=11), slow]
    rows += [replace(SMALL, name="small (cpu)", device=cpu, deploy_bytes=110), replace(SMALL, name="elsewhere")]
    gates = gated(replace(REPORT, rows=tuple(rows)), [parse("size<=1.2x")]).gates
    assert [(gate.row, gate.limit, gate.passed) for gate in gates] == [
        ("small", 12.0, True),
        ("small (cpu)", 120.0, True),
        ("elsewhere", 12.0, False),
    ]


def test_figures_of_the_harness_by_their_names():
    row = replace(SMALL, metrics={"arc/acc_norm": 0.4})
    (gate,) = gated(replace(REPORT, rows=(BASE, row)), [parse("arc/acc_norm>=0.3")]).gates
    assert (gate.value, gate.passed) == (0.4, True)
    (gate,) = gated(REPORT, [parse("arc/acc>=0.3")]).gates
    assert (gate.value, gate.passed) == (None, False)
