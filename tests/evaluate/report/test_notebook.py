"""The table for a notebook, read by a parser: all rows, no text is code, nothing comes from outside."""

from __future__ import annotations

import re
from dataclasses import replace

from compresskit.evaluate.report import notebook
from tests.evaluate.report import dom
from tests.evaluate.report.samples import BROKEN, DENSE, PRUNED, REPORT
from tests.evaluate.several import a_report

HOSTILE = "<script>alert(1)</script>&<b title='"


def test_a_notebook_shows_the_table() -> None:
    root = dom.parse(notebook.render(REPORT))
    headings = [each.text for each in root.one("thead").all("th")]
    rows = {line.one("th").text: line for line in root.one("tbody").all("tr")}
    assert list(rows) == ["dense (baseline)", "pruned-0.9", "int8", "predictions", "broken"]
    cells = [each.text for each in rows["pruned-0.9"].all("td")]
    assert cells[headings.index("EM") - 1] == "71.02"
    assert "bold" in rows["dense (baseline)"].all("td")[headings.index("EM") - 1]["style"]
    assert "❌ em>=base-2 fails for pruned-0.9" in root.text
    assert "broken: not scored: its process was ended by SIGKILL" in root.text


def test_a_notebook_shows_the_runs_below_their_mean() -> None:
    report = a_report()
    root = dom.parse(notebook.render(report))
    names = [line.one("th").text for line in root.one("tbody").all("tr")]
    assert names == ["dense (baseline)", "↳ seed42", "↳ seed43", "smp", "↳ seed42", "↳ seed43", "one"]
    lines = root.one("tbody").all("tr")
    assert not any("bold" in cell["style"] for line in lines[1:3] for cell in line.all("td")), "a run is no row"


def test_a_notebook_loads_nothing_and_keeps_its_colours() -> None:
    """Neither text nor an opaque ground has a colour, so that both are those of the notebook's own theme."""
    page = notebook.render(REPORT)
    root = dom.parse(page)
    assert {node.tag for node in root.all()} <= {
        *("div", "table", "thead", "tbody", "tr", "th", "td", "br", "details", "summary")
    }
    assert all(set(node.attributes) <= {"style"} for node in root.all())
    assert not re.search(r"(?<![-\w])color:|url\(|#[0-9a-f]{3}", page)
    assert all(0 < float(alpha) < 0.5 for alpha in re.findall(r"background:rgba\([\d,]+,([\d.]+)\)", page))


def test_a_notebook_escapes_everything() -> None:
    row = replace(PRUNED, name=HOSTILE, method=HOSTILE, metrics={HOSTILE: 1.0})
    broken = replace(BROKEN, name=HOSTILE + "2", error=HOSTILE)
    data = replace(REPORT.dataset, path=HOSTILE)
    page = notebook.render(replace(REPORT, rows=(DENSE, row, broken), dataset=data))
    assert not re.search("<(script|b )", page)
    assert dom.parse(page).text.count("<script>alert(1)</script>") >= 5
