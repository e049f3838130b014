"""Rows of several runs in every format: mean ± standard deviation, and the single runs below it."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from compresskit.evaluate.gate import gated, parse
from compresskit.evaluate.report import html, render
from compresskit.evaluate.report.drawing import draw
from compresskit.evaluate.report.plot import save_plot
from compresskit.evaluate.report.scatter import scatters
from compresskit.evaluate.row import Report
from tests.evaluate.several import a_report

REPORT = gated(a_report(), [parse("em>=base-1@worst")])
DENSE, SMP, ONE = REPORT.rows
EM = f"{SMP.em:.2f} ± {(SMP.sd or {})['em']:.2f}"
RUNS = [f"{run.em:.2f}" for run in SMP.runs or ()]


def table(report: Report, width: int) -> list[str]:
    console = Console(width=width, color_system=None, file=io.StringIO())
    console.print(render(report, "table"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_has_runs_below_their_mean(width: int) -> None:
    lines = table(REPORT, width)
    assert max(map(len, lines)) <= width
    place = next(number for number, line in enumerate(lines) if line.startswith("smp "))
    assert EM in lines[place]
    for offset, em in enumerate(RUNS, start=1):
        assert re.match(rf"  seed4{offset + 1} .* {em} ", lines[place + offset])
        assert "*" not in lines[place + offset], "no run is the best of a column"
    assert lines[place + 3].startswith("one ")
    told = " ".join(lines)
    assert "mean ± standard deviation over runs: dense 2, smp 2" in told
    assert f"@worst fails for smp ({REPORT.gates[0].run}: " in told


def test_markdown_and_csv_have_them_as_rows() -> None:
    text = render(REPORT, "markdown")
    assert isinstance(text, str)
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("| smp |"))
    assert EM in lines[place]
    assert [line.split(" | ")[0] for line in lines[place + 1 : place + 4]] == ["| ↳ seed42", "| ↳ seed43", "| one"]

    text = render(REPORT, "csv")
    assert isinstance(text, str)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["name"], row["run_of"]) for row in rows[3:]] == [
        *(("smp", ""), ("smp-seed42", "smp"), ("smp-seed43", "smp"), ("one", "")),
    ]
    assert float(rows[3]["em_sd"]) == pytest.approx((SMP.sd or {})["em"])
    assert rows[4]["em_sd"] == ""


def test_the_page_folds_them() -> None:
    page = html.render(REPORT)
    body = page[page.index("<tbody>", page.index('id="results"')) :]
    found = re.findall(r'<tr(?: class="(\w+)")?>\s*<th.*?<bdi>(.*?)</bdi>', body[: body.index("</tbody>")], re.DOTALL)
    assert found == [
        ("baseline", "dense"),
        ("run", "seed42"),
        ("run", "seed43"),
        ("", "smp"),
        ("run", "seed42"),
        ("run", "seed43"),
        ("", "one"),
    ]
    assert EM in page
    assert "mean of 2 runs" in page
    assert "single runs (4)" in page
    assert f"worst run: <bdi>{REPORT.gates[0].run}</bdi>" in page
    for key in ("row-1-1", "row-2-2"):
        assert page.count(f'href="#{key}"') == page.count(f'id="{key}"') == 1
    assert "single runs" not in html.render(replace(REPORT, rows=(ONE,), gates=()))


def test_a_plot_has_error_bars(tmp_path) -> None:
    size, _ = scatters(REPORT)
    sd = (SMP.sd or {})["em"]
    assert [point.spread for point in size.points] == [(DENSE.sd or {})["em"], sd, None]
    assert size.y.low < min(point.ends[0] for point in size.points)
    drawing = draw(size, 0.5)
    bars = [line.points for line in drawing.lines if line.role == "spread"]
    assert len(bars) == 2 * 3, "an upright, and a bar at each end"
    mark = drawing.marks[1]
    (x, low), (_, high) = bars[3]
    assert x == mark.x
    assert (low + high) / 2 == pytest.approx(mark.y)
    assert f"± {sd:.2f}" in mark.title
    assert [key.text for key in drawing.keys][-1].startswith("bars:")
    save_plot(REPORT, tmp_path / "plot.svg")
    assert "bars: one standard deviation" in (tmp_path / "plot.svg").read_text()


def test_a_case_of_junit_names_the_run() -> None:
    text = render(REPORT, "junit")
    assert isinstance(text, str)
    case = ElementTree.fromstring(text.encode())[0]
    assert (case.get("classname"), case.get("name")) == ("smp", "em>=base-1@worst")
    assert f"({REPORT.gates[0].run}: " in (case[0].get("message") or "")
