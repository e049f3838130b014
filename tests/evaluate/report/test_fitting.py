"""The table of the page fits a screen of 1,280 px: lesser columns are folded."""

from dataclasses import replace

import pytest

from compresskit.evaluate.report import html
from compresskit.evaluate.report.page.columns import page_columns
from compresskit.evaluate.report.page.fitting import SCREEN, Texts, column_width, lesser, width_of
from tests.evaluate.report import dom, fifteen
from tests.evaluate.report.samples import REPORT


@pytest.mark.parametrize("report", [fifteen.REPORT, REPORT], ids=["fifteen", "five"])
def test_the_default_columns_fit(report):
    columns = page_columns(report)
    shown = [column for column in columns if not column.is_lesser]
    width = (
        15 * 16
        + 2 * 24
        + sum(
            column_width(Texts(each.heading, [c.text for c in each.cells], [c.note for c in each.cells], 0))
            for each in shown
            if each.is_number
        )
    )
    assert SCREEN / 2 < width < SCREEN
    headings = [column.heading.replace("\n", " ") for column in shown]
    for wanted in ("EM", "F1", "Δ EM", "Disk", "p50 ms"):
        assert wanted in headings
    assert len(shown) < len(columns)


def test_what_is_folded_is_still_in_the_page():
    root = dom.parse(html.render(fifteen.REPORT))
    results = root.one("table", id="results")
    columns = page_columns(fifteen.REPORT)
    folded = sum(column.is_lesser for column in columns)
    heads = [th for th in results.one("thead").all("th") if th.all("button")]
    assert len(heads) == len(columns) + 1
    assert sum("lesser" in th.classes for th in heads) == folded
    assert root.one("input", id="all-columns")["type"] == "checkbox"
    assert root.one("label", **{"for": "all-columns"}).text == f"all {len(columns) + 1} columns ({folded} more)"
    groups = [cell for cell in root.one("tr", css="groups").all() if cell.tag in ("th", "td")]
    few, every = (
        sum(int(cell.attributes.get("colspan", "1")) for cell in groups if css not in cell.classes)
        for css in ("lesser", "folded")
    )
    assert (few, every) == (len(heads) - folded, len(heads))


def test_where_all_fits_nothing_is_folded():
    few = replace(REPORT, rows=tuple(replace(row, metrics={}) for row in REPORT.rows[-2:]), gates=())
    assert lesser([Texts("EM", ["73.85"], [], 0), Texts("p", ["0.1"], [], None)]) == frozenset()
    assert lesser([Texts("EM", ["73.85"] * 2, ["x" * 200], 0), Texts("F1", ["1"], [], 1)]) == {1}
    assert dom.parse(html.render(few)).all("table", id="results")


def test_a_wide_letter_is_wider():
    assert width_of("1") == width_of("7") > width_of(".")


def test_a_checkpoint_that_was_lost_says_so_though_its_bytes_are_known():
    root = dom.parse(html.render(fifteen.REPORT))
    lost = next(row for row in fifteen.ROWS if row.error and row.disk_bytes)
    tag = next(tag for tag in root.one("table", id="results").all("span", css="bad") if tag.text == "not scored")
    assert tag["title"] == lost.error


def test_gates_without_a_figure_are_one_line_a_rule():
    root = dom.parse(html.render(fifteen.REPORT))
    failed = root.all("table", css="gates")[0]
    names = [row.one("td", css="names").text for row in failed.one("tbody").all("tr")]
    lost = ", ".join(row.name for row in fifteen.ROWS if row.error)
    rules = {gate.rule for gate in fifteen.REPORT.gates}
    assert names.count(f"{lost} not scored") == len(rules)
    assert sum(lost in name for name in names) == len(rules)
    assert len(names) == 23, "those with a figure have a line each"
    lost_gates = sum(not gate.passed for gate in fifteen.REPORT.gates)
    assert f"{lost_gates} of {len(fifteen.REPORT.gates)} gates failed" in root.one(id="verdict").text
    assert "? undecided" in {row.all("td")[0].text for row in failed.one("tbody").all("tr")}
