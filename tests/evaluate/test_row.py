"""Rows and reports as JSON."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.errors import InputError
from compresskit.evaluate.row import Dataset, Gate, Report, Row

KEYS = [
    *("name", "path", "family", "method", "baseline"),
    *("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "best_em", "best_null_threshold"),
    *("delta_em", "delta_em_ci95", "p_value", "params_total", "params_nonzero", "params_trainable"),
    *("disk_bytes", "deploy_bytes", "peak_memory_bytes", "peak_memory_kind"),
    *("latency_ms_p50", "latency_ms_p95", "questions_per_s"),
]

figures = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.none() | st.integers(0, 2**60)
rows = st.builds(
    Row,
    name=st.text(),
    path=st.text(),
    family=st.text(),
    method=st.text(),
    baseline=st.booleans(),
    delta_em_ci95=st.none() | st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    peak_memory_kind=st.sampled_from([None, "cuda", "rss"]),
    error=st.none() | st.text(),
    **dict.fromkeys(("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "best_em", "delta_em", "p_value"), figures),
    **dict.fromkeys(("latency_ms_p50", "latency_ms_p95", "questions_per_s"), figures),
    **dict.fromkeys(("params_total", "params_nonzero", "params_trainable"), counts),
    **dict.fromkeys(("disk_bytes", "deploy_bytes", "peak_memory_bytes"), counts),
)
reports = st.builds(
    Report,
    created=st.text(),
    versions=st.dictionaries(st.text(), st.text(), max_size=3),
    device=st.dictionaries(st.text(), st.text() | st.integers(), max_size=3),
    dataset=st.builds(Dataset, st.text(), st.text(), st.integers(0), st.integers(0)),
    rows=st.lists(rows, max_size=3).map(tuple),
    gates=st.lists(st.builds(Gate, st.text(), st.text(), st.booleans(), figures, figures), max_size=2).map(tuple),
    passed=st.booleans(),
)


def a_report() -> Report:
    row = Row("dense", "out/dense", "encoder", "train", True, em=80.0)
    dataset = Dataset("eval.json", "00ff", 10, 3)
    return Report("2026-01-01T00:00:00+00:00", {"torch": "2.9"}, {"kind": "cpu", "threads": 2}, dataset, (row,))


def test_a_row_has_the_keys_of_the_schema_in_their_order() -> None:
    row = Row("dense", "out/dense", "encoder", "train", True)
    assert list(row.to_dict()) == KEYS
    assert all(value is None for key, value in row.to_dict().items() if key not in KEYS[:5])
    failed = Row("dense", "out/dense", "-", "-", False, error="out of memory")
    assert list(failed.to_dict()) == [*KEYS, "error"]


def test_a_report_has_the_keys_of_the_schema_in_their_order() -> None:
    value = json.loads(a_report().to_json())
    assert list(value) == ["schema", "created", "versions", "device", "dataset", "rows", "gates", "passed"]
    assert value["schema"] == "compresskit.eval/1"
    assert list(value["dataset"]) == ["path", "sha256", "questions", "unanswerable"]
    assert (value["gates"], value["passed"]) == ([], True)


@given(rows)
@settings(deadline=None)
def test_row_round_trip(row: Row) -> None:
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row


@given(reports)
@settings(deadline=None)
def test_report_round_trip(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


def test_a_figure_that_is_not_finite_is_never_written() -> None:
    report = a_report()
    bad = Report(report.created, {}, {}, report.dataset, (Row("x", "x", "-", "-", False, em=float("nan")),))
    with pytest.raises(ValueError, match="JSON"):
        bad.to_json()


def broken(path: list[str | int], value: object) -> str:
    """The JSON of a report with one entry replaced, or removed where ``value`` is Ellipsis."""
    whole: Any = json.loads(a_report().to_json())
    place = whole
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ('{"schema": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "schema"),
        (broken(["schema"], "compresskit.eval/2"), "schema"),
        (broken(["rows"], ...), "'rows'"),
        (broken(["rows"], {}), "rows is"),
        (broken(["rows", 0], 3), r"rows\[0\]"),
        (broken(["rows", 0, "em"], ...), r"rows\[0\]: lacks the key 'em'"),
        (broken(["rows", 0, "em"], "80"), "em is '80'"),
        (broken(["rows", 0, "em"], True), "em is True"),
        (broken(["rows", 0, "em"], 10**400), "em is 1000"),
        (broken(["rows", 0, "em"], 8.5).replace("8.5", "1e999"), "em is inf"),
        (broken(["rows", 0, "f2"], 1), "'f2'"),
        (broken(["rows", 0, "disk_bytes"], -1), "disk_bytes is -1"),
        (broken(["rows", 0, "disk_bytes"], 1.5), "disk_bytes is 1.5"),
        (broken(["rows", 0, "baseline"], None), "baseline is None"),
        (broken(["rows", 0, "name"], 1), "name is 1"),
        (broken(["rows", 0, "peak_memory_kind"], "ram"), "peak_memory_kind is 'ram'"),
        (broken(["rows", 0, "delta_em_ci95"], [1]), "delta_em_ci95 is"),
        (broken(["rows", 0, "delta_em_ci95"], [1, "2"]), "delta_em_ci95 is"),
        (broken(["dataset", "sha256"], None), "dataset: sha256"),
        (broken(["device"], {"kind": []}), "device is"),
        (broken(["versions"], {"torch": 2}), "versions is"),
        (broken(["gates"], [{}]), r"gates\[0\]"),
        (broken(["passed"], "yes"), "passed is 'yes'"),
    ],
)
def test_broken_json_is_one_line_that_says_where(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        Report.from_json(text, "eval.json")
    assert str(caught.value).startswith("eval.json")
    assert "\n" not in str(caught.value)
