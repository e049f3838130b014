"""The columns of the HTML page: those of the terminal's table, and between them what else was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compresskit.evaluate.report.table import (
    Column,
    best_of,
    columns_of,
    number_column,
    per_cent,
    signed,
    size,
    three_digits,
)
from compresskit.evaluate.row import Interval, Report, Row


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell: its text, a note in small print below it, and the figure by which it is sorted."""

    text: str
    note: str
    figure: float | None
    is_best: bool


@dataclass(frozen=True, slots=True)
class PageColumn:
    """A column with its group; ``cells`` are one for each row of the report, in its order."""

    heading: str
    group: str
    is_number: bool
    most_first: bool
    cells: tuple[Cell, ...]


def page_columns(report: Report) -> list[PageColumn]:
    """Return the columns that have something to say of this report.

    The terminal's columns are all there, the others where at least one row has the figure.
    """
    found, group = [], ""
    asked = {name for row in report.rows for name in row.metrics}
    for column in columns_of(report):
        group = "Other" if column.heading in asked else _GROUP_STARTS.get(column.heading, group)
        found.append(_filled(column, group, report.rows))
        found += [
            _filled(more, group, report.rows) for more in _MORE.get(column.heading, ()) if _any(more, report.rows)
        ]
    return found


def _filled(column: Column, group: str, rows: Sequence[Row]) -> PageColumn:
    best = best_of(column, rows)
    note = _NOTES.get(column.heading)
    cells = []
    for row in rows:
        figure = None if column.figure is None else column.figure(row)
        cells.append(
            Cell(column.show(row), "" if note is None else note(row), figure, figure is not None and figure == best)
        )
    return PageColumn(column.heading, group, column.figure is not None, column.best is not min, tuple(cells))


def _any(column: Column, rows: Sequence[Row]) -> bool:
    return column.figure is not None and any(column.figure(row) is not None for row in rows)


def _noted(interval: Callable[[Row], Interval | None], text: Callable[[float], str]) -> Callable[[Row], str]:
    def note(row: Row) -> str:
        ends = interval(row)
        return "" if ends is None else f"{text(ends[0])} to {text(ends[1])}"

    return note


def _two_digits(value: float) -> str:
    return f"{value:.2g}"


_GROUP_STARTS: Mapping[str, str] = {
    "EM": "Quality",
    "Δ EM": "Against the baseline",
    "Weights\nleft %": "Size",
    "Memory": "Memory",
    "p50\nms": "Speed",
}

_MORE: Mapping[str, Sequence[Column]] = {
    "Δ EM": (
        number_column("p", 0, lambda row: row.p_value, _two_digits),
        number_column("Δ F1", 0, lambda row: row.delta_f1, signed),
        number_column("Won", 0, lambda row: row.questions_won, str),
        number_column("Lost", 0, lambda row: row.questions_lost, str),
    ),
    "Deploy": (number_column("zstd", 0, lambda row: row.zstd_bytes, size, min),),
    "Memory": (
        number_column("Reserved", 0, lambda row: row.reserved_memory_bytes, size, min),
        number_column("Process", 0, lambda row: row.process_memory_bytes, size, min),
        number_column("Load", 0, lambda row: row.load_memory_bytes, size, min),
    ),
    "q/s": (number_column("Load\ns", 0, lambda row: row.load_s, three_digits, min),),
}
"""What follows a column of the terminal's table."""

_NOTES: Mapping[str, Callable[[Row], str]] = {
    "EM": _noted(lambda row: row.em_ci95, per_cent),
    "F1": _noted(lambda row: row.f1_ci95, per_cent),
    "Δ EM": _noted(lambda row: row.delta_em_ci95, signed),
    "Δ F1": _noted(lambda row: row.delta_f1_ci95, signed),
    "q/s": _noted(lambda row: row.questions_per_s_range, three_digits),
}
