"""A report as an object: rows, files, a table for a notebook."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import compresskit as ck
from compresskit.evaluate.report import csv, markdown, notebook, plot
from tests.evaluate.report.samples import DENSE, INT8, PRUNED, REPORT


@pytest.fixture
def report() -> ck.Report:
    return ck.Report(REPORT)


def test_rows_are_found_by_name_and_number(report: ck.Report) -> None:
    assert report["int8"] is INT8
    assert report[0] is DENSE
    assert report[1:3] == (PRUNED, INT8)
    assert [row.name for row in report] == ["dense", "pruned-0.9", "int8", "predictions", "broken"]
    assert "int8" in report
    assert PRUNED in report
    assert "int4" not in report
    assert (len(report), report.baseline, report.passed) == (5, DENSE, False)
    with pytest.raises(KeyError, match="no row is called int4; did you mean int8"):
        _ = report["int4"]


def test_check_raises_what_fails() -> None:
    with pytest.raises(ck.RunFailed, match="broken could not be scored"):
        ck.Report(REPORT).check()
    whole = ck.Report(replace(REPORT, rows=REPORT.rows[:4]))
    with pytest.raises(ck.GateFailed, match=r"em>=base-2 fails for pruned-0\.9"):
        whole.check()
    held = whole.gated("em>=50")
    assert held.check() is held
    assert held.passed
    assert [gate.rule for gate in held.gates] == ["em>=50"] * 3
    with pytest.raises(ck.UsageError, match="there is no figure 'emm'"):
        whole.gated(["emm>=50"])
    with pytest.raises(ck.UsageError, match="allow-weak-baseline has no effect"):
        whole.gated("em>=50", allow_weak_baseline=True)


def test_a_data_frame_has_the_figures(report: ck.Report) -> None:
    frame = report.to_pandas()
    assert list(frame.index) == [row.name for row in report]
    assert frame.loc["pruned-0.9", "em"] == 71.02
    assert frame.loc["pruned-0.9", ["delta_em_ci95_low", "delta_em_ci95_high"]].tolist() == [-3.91, -1.77]
    assert frame.loc["int8", "bleu"] == 33.25
    assert pd.isna(frame.loc["broken", "em"])
    assert frame["deploy_bytes"].idxmin() == "int8"
    assert not {"manifest", "settings", "slices", "flips"} & set(frame.columns)


def test_pandas_that_is_not_there(report: ck.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ck.MissingError, match=r"pip install 'compresskit\[pandas\]'"):
        report.to_pandas()


def test_files_by_their_ending(report: ck.Report, tmp_path: Path) -> None:
    for name in ("eval.json", "eval.md", "eval.csv", "eval.html", "eval.xml"):
        assert report.save(tmp_path / name) == tmp_path / name
    assert ck.read_report(tmp_path / "eval.json") == report
    assert (tmp_path / "eval.md").read_text() == markdown.render(REPORT) + "\n" == report.to_markdown() + "\n"
    assert (tmp_path / "eval.csv").read_text() == csv.render(REPORT) + "\n"
    assert (tmp_path / "eval.html").read_text().startswith("<!DOCTYPE html>")
    assert "<testsuite " in (tmp_path / "eval.xml").read_text()
    with pytest.raises(ck.UsageError, match=r"has no ending that a report has; take \.json, \.md"):
        report.save(tmp_path / "eval.xlsx")
    with pytest.raises(ck.UsageError, match="make it first"):
        report.save(tmp_path / "nowhere" / "eval.json")


def test_an_image_is_drawn(report: ck.Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(plot, "check", drawn.append)
    monkeypatch.setattr(plot, "save_plot", lambda measured, path: drawn.append((measured, path)))
    assert report.save(tmp_path / "eval.svg") == tmp_path / "eval.svg"
    assert drawn == [tmp_path / "eval.svg", (REPORT, tmp_path / "eval.svg")]


def test_reports_are_read_as_one(report: ck.Report, tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    ck.Report(replace(REPORT, rows=(DENSE, INT8))).save(one)
    ck.Report(replace(REPORT, rows=(DENSE, replace(PRUNED, baseline=False)))).save(other)
    both = ck.read_report([one, other])
    assert [row.name for row in both] == ["dense", "int8", "pruned-0.9"]
    assert both.gated("size<=0.5x").passed is False
    with pytest.raises(ck.InputError, match="no-such-file"):
        ck.read_report("no-such-file.json")
    with pytest.raises(ck.UsageError, match="name at least one file"):
        ck.read_report([])


def test_as_a_text_it_is_the_table(report: ck.Report) -> None:
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 120
    assert any(line.startswith("pruned-0.9") and "71.02" in line for line in lines)
    assert "em>=base-2 fails for pruned-0.9" in str(report)
    assert repr(report) == "Report(dense, pruned-0.9, int8, predictions, broken on data/eval.json.gz, failed)"


def test_as_json_it_has_the_schema(report: ck.Report) -> None:
    found = report.to_dict()
    assert found["schema"] == "compresskit.eval/1"
    assert [row["em"] for row in found["rows"]] == [73.85, 71.02, 72.4, 50.0, None]


def test_a_notebook_shows_the_table(report: ck.Report) -> None:
    assert report._repr_html_() == notebook.render(REPORT)
