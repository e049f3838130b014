"""Markdown, CSV and JUnit: read back by their own parsers."""

import csv
import io
import json
import re
from dataclasses import fields, replace
from typing import Any
from xml.etree import ElementTree

import pytest

from compresskit import console
from compresskit.evaluate.gate import gated, parse
from compresskit.evaluate.report import html, render
from compresskit.evaluate.row import Dataset, Report, Row

DENSE = Row("dense", "runs/dense", "encoder", "train", True, em=80.0, f1=85.5, disk_bytes=90_000_000, delta_em=0.0)
SMALL = replace(
    DENSE,
    name='small | "x" <y>',
    baseline=False,
    em=79.25,
    disk_bytes=1_000_000,
    delta_em=-0.75,
    delta_em_ci95=(-1.5, 0.25),
    p_value=0.125,
    metrics={"bleu": 12.5},
)
LOST = Row("lost", "runs/lost", "-", "-", False, error="out of memory & gone")
REPORT = Report("2026-01-01T00:00:00+00:00", {}, {}, Dataset("d", "0", 4, 2), (DENSE, SMALL, LOST))


def text(report: Report, name: str) -> str:
    found = render(report, name)
    assert isinstance(found, str)
    return found


def test_csv_has_every_key_and_figure():
    header, *rows = csv.reader(io.StringIO(text(REPORT, "csv")))
    nested = {"metrics", "device", "versions", "settings", "manifest", "flips", "slices", "overlap", "blind", "turns"}
    nested |= {"bytes_explained", "runs", "sd"}
    assert header == [*(field.name for field in fields(Row) if field.name not in nested), "run_of", "bleu"]
    table = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["name"] for row in table] == ["dense", 'small | "x" <y>', "lost"]
    assert float(table[1]["em"]) == 79.25
    assert table[1]["delta_em_ci95"] == "-1.5 0.25"
    assert [row["bleu"] for row in table] == ["", "12.5", ""]
    assert (table[0]["latency_ms_p50"], table[2]["em"]) == ("", "")
    assert table[2]["error"] == "out of memory & gone"


def test_markdown_is_one_table_with_as_many_cells_in_every_line():
    report = gated(REPORT, [parse("em>=base-1")])
    lines = text(report, "markdown").splitlines()
    table = [line for line in lines if line.startswith("|")]
    paired = next(number for number, line in enumerate(table) if line.startswith("| Against the baseline |"))
    assert paired == 2 + 3
    table, differences = table[:paired], table[paired:]
    assert len(differences) == 2 + 1
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "| dense (baseline) | train | **80.00** |" in table[2]
    assert '| small \\| "x" &lt;y> |' in table[3]
    assert "**1.00 MB**" in table[3]
    assert any(line.startswith("- ✅ em>=base-1 holds for small") for line in lines)
    assert any(line.startswith("- ❌ em>=base-1 fails for lost (not measured") for line in lines)
    assert "- lost: not scored: out of memory & gone" in lines


def test_without_a_baseline_markdown_has_no_difference():
    assert "Δ EM" in text(REPORT, "markdown")
    assert "Δ EM" not in text(replace(REPORT, rows=(SMALL,)), "markdown")


def test_junit_has_a_case_for_each_gate_and_row():
    suite = ElementTree.fromstring(text(gated(REPORT, [parse("em>=base-1"), parse("em>=79.5")]), "junit"))
    counts = {name: int(suite.get(name, "-1")) for name in ("tests", "failures", "errors")}
    assert counts == {"tests": 5, "failures": 3, "errors": 1}
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert cases['small | "x" <y>', "em>=base-1"].find("failure") is None
    failure = cases['small | "x" <y>', "em>=79.5"].find("failure")
    assert failure is not None
    assert failure.get("message") == 'em>=79.5 fails for small | "x" <y> (79.25, limit 79.5)'
    error = cases["lost", "scored"].find("error")
    assert error is not None
    assert error.get("message") == "out of memory & gone"


NASTY = "evil \x1b[31m\x9b2J\x00\x0b\r\u202e\udcff\uffff"
SHOWN = r"evil \u001b[31m\u009b2J\u0000\u000b\u000d\u202e\udcff\uffff"


def nasty() -> Report:
    """What an `eval.json` may hold in each of its texts."""
    texts: dict[str, Any] = {"path": NASTY, "method": NASTY, "device": {"name": NASTY}}
    rows = tuple(replace(row, name=f"{NASTY} {row.name}", **texts) for row in REPORT.rows)
    rows = (rows[0], replace(rows[1], metrics={NASTY: 1.0}), replace(rows[2], error=NASTY))
    return gated(replace(REPORT, dataset=Dataset(NASTY, "0", 4, 2), rows=rows), [parse("em>=base-0.1")])


def printed(report: Report, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    console.out(render(report, name))
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["table", "json", "markdown", "csv", "junit", "html"])
def test_no_format_lets_control_characters_through(name: str, capsys: pytest.CaptureFixture[str]):
    found = html.render(nasty()) if name == "html" else printed(nasty(), name, capsys)
    assert not set("\x1b\x9b\x00\x0b\r\u202e\udcff\uffff") & set(found)
    assert SHOWN[:24] in found
    assert found.encode()


def test_of_names_with_control_characters_json_keeps_the_value_and_junit_is_xml():
    report = nasty()
    assert json.loads(text(report, "json"))["rows"][0]["path"] == NASTY
    suite = ElementTree.fromstring(text(report, "junit"))
    assert [case.get("classname") for case in suite][-1] == f"{SHOWN} lost".replace(r"\u000d", "\r")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_text_in_a_csv_is_a_formula(start: str):
    formula = f"{start}HYPERLINK(A1)"
    row = replace(SMALL, name=formula, path=formula, method="-", metrics={formula: -2.5}, delta_em=-0.75)
    header, cells = csv.reader(io.StringIO(text(replace(REPORT, rows=(row,)), "csv")))
    table = dict(zip(header, cells, strict=True))
    assert (table["name"], table["path"], table[f"'{formula}"]) == (f"'{formula}", f"'{formula}", "-2.5")
    assert (table["method"], table["delta_em"], table["delta_em_ci95"]) == ("-", "-0.75", "-1.5 0.25")


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_no_figure_fills_a_line_with_its_digits(name: str, capsys: pytest.CaptureFixture[str]):
    row = replace(
        SMALL,
        null_threshold=1e308,
        best_em=80.0,
        best_null_threshold=-1e308,
        latency_ms_p50=1e300,
        metrics={"ppl": 1e99},
    )
    found = printed(replace(REPORT, rows=(row,)), name, capsys)
    assert not re.search(r"\d{20}", found)
    assert {"1e+308", "-1e+308", "1e+300", "1e+99"} <= set(re.split(r"[\s|;]+", found))
    assert "null threshold: dense 0.25" in printed(
        replace(REPORT, rows=(replace(DENSE, null_threshold=0.25),)), name, capsys
    )
