"""What is known of a figure is said once, and holds together."""

from dataclasses import fields, replace

import pytest

from compresskit.evaluate.figures import ASKED, Figure, asked_figure
from compresskit.evaluate.report import html, render
from compresskit.evaluate.report.table import COLUMNS, PAGE_COLUMNS
from compresskit.evaluate.row import FIGURES, Row, figure_of
from compresskit.evaluate.units import POINTS
from tests.evaluate.report import dom
from tests.evaluate.report.samples import DENSE, PRUNED, REPORT

TYPES = {field.name: str(field.type) for field in fields(Row)}


def test_every_measured_number_of_a_row_is_described() -> None:
    numbers = {name for name, kind in TYPES.items() if kind in ("float | None", "int | None")}
    assert set(FIGURES) == numbers - {"null_threshold", "error_code"}
    assert all(figure.description for figure in FIGURES.values())


def test_every_interval_belongs_to_one_figure() -> None:
    keys = [figure.interval for figure in FIGURES.values() if figure.interval is not None]
    assert sorted(keys) == sorted(name for name, kind in TYPES.items() if kind == "Interval | None")


@pytest.mark.parametrize("name", FIGURES)
def test_a_difference_is_paired_in_points_and_has_an_interval(name: str) -> None:
    figure = FIGURES[name]
    assert (figure.unit is POINTS) == name.startswith("delta_")
    if figure.unit is POINTS:
        assert figure.paired
        assert figure.interval is not None
    if figure.difference is not None:
        assert FIGURES[figure.difference].unit is POINTS
        assert figure.interval is not None


def test_a_figure_is_found_by_key_and_by_name() -> None:
    assert figure_of("deploy_bytes") is FIGURES["deploy_bytes"]
    assert figure_of("bleu") is ASKED["bleu"]
    for name in ("nonsense", "name", "em_ci95", "null_threshold", "size"):
        assert figure_of(name) is None


@pytest.mark.parametrize(
    ("name", "better", "shown"),
    [
        ("arc/acc_norm", "higher", "0.1235"),
        ("wikitext/word_perplexity", "lower", "0.1235"),
        ("wikitext/bits_per_byte", "lower", "0.1235"),
        ("ppl", "lower", "0.12"),
        ("of another version", "higher", "0.12"),
    ],
)
def test_what_was_asked_for(name: str, better: str, shown: str) -> None:
    figure = asked_figure(name)
    assert (figure.heading, figure.better, figure.unit.cell(0.123456)) == (name, better, shown)
    assert figure_of(name) == (None if " " in name else figure)


def shown_headings(report_format: str) -> set[str]:
    report = replace(REPORT, rows=(DENSE, replace(PRUNED, **dict.fromkeys(FIGURES, 2))))  # type: ignore[arg-type]
    if report_format == "html":
        table = dom.parse(html.render(report)).one("table", id="results")
        return {heading.text for heading in table.all("th", scope="col")}
    text = render(report, report_format)
    assert isinstance(text, str)
    return {cell.strip() for cell in text.splitlines()[0].split("|" if report_format == "markdown" else ",")}


def test_formats_show_what_is_described() -> None:
    """A figure with a group has a column on the page, one with a rank in the tables too, each its key in CSV."""

    def headings(chosen: list[Figure]) -> set[str]:
        return {figure.heading.replace("\n", " ") for figure in chosen}

    assert headings([figure for figure in FIGURES.values() if figure.group is not None]) <= shown_headings("html")
    assert headings([figure for figure in FIGURES.values() if figure.rank is not None]) <= shown_headings("markdown")
    assert set(FIGURES) <= shown_headings("csv")
    assert {column.key for column in COLUMNS} < {column.key for column in PAGE_COLUMNS}
