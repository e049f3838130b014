"""The columns of the HTML page: those of the terminal's table, and between them what else was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compresskit.evaluate.report.against import spread
from compresskit.evaluate.report.page.fitting import Texts, lesser
from compresskit.evaluate.report.table import PAGE_COLUMNS, Column, columns_of
from compresskit.evaluate.report.times import RATIO_FIGURES
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import with_runs


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell: its text, a note in small print below it, and the figure by which it is sorted."""

    text: str
    note: str
    figure: float | None
    is_best: bool


@dataclass(frozen=True, slots=True)
class PageColumn:
    """A column with its group; `cells` are one for each row of the report, in its order, runs below their mean.

    One that is lesser is folded, until all columns are asked for.
    """

    heading: str
    group: str
    is_number: bool
    most_first: bool
    cells: tuple[Cell, ...]
    is_lesser: bool = False


def page_columns(report: Report) -> list[PageColumn]:
    """The columns that have something to say of this report.

    The terminal's columns are all there, the others where at least one row has the figure.
    """
    known = [
        column
        for column in columns_of(report, PAGE_COLUMNS)
        if column.rank is not None or any(column.value(row) is not None for row in report.rows)
    ]
    filled = [_filled(column, report.rows, with_runs(report.rows)) for column in known]
    folded = lesser([_texts(column, each.cells) for column, each in zip(known, filled, strict=True)])
    return [replace(each, is_lesser=number in folded) for number, each in enumerate(filled)]


def _texts(column: Column, cells: Sequence[Cell]) -> Texts:
    """What decides how wide a column is: texts break behind a slash."""
    parts = [part for cell in cells for part in (cell.text.split("/") if column.figure is None else [cell.text])]
    return Texts(column.heading, parts, [cell.note for cell in cells], column.rank)


def _filled(column: Column, rows: Sequence[Row], lines: Sequence[Row]) -> PageColumn:
    """A column of all `lines`; the best is that of the `rows`, which runs are not."""
    best, figure, own = column.best(rows), column.figure, {id(row) for row in rows}
    values = [column.value(row) for row in lines]
    cells = tuple(
        Cell(column.show(row), _note(column, row), value, value is not None and value == best and id(row) in own)
        for row, value in zip(lines, values, strict=True)
    )
    group = "" if figure is None or figure.group is None else figure.group.value
    return PageColumn(column.heading, group, figure is not None, figure is None or figure.better != "lower", cells)


def _note(column: Column, row: Row) -> str:
    """The interval of a figure in words, or the spread of a ratio; empty where it has none."""
    if column.key in RATIO_FIGURES:
        ratio = getattr(row, column.key)
        return spread(ratio)
    ends = None if column.figure is None else row.interval(column.figure)
    if column.figure is None or ends is None:
        return ""
    return " to ".join(map(column.figure.unit.cell, ends))
