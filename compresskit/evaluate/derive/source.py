"""A saved report as limits are derived from it: the baseline, and the rows that are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compresskit.errors import InputError, UsageError
from compresskit.evaluate.combine import read_report
from compresskit.evaluate.nothing import weak
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import Layout


@dataclass(frozen=True, slots=True)
class Source:
    """A report with its baseline, and the rows that gates are derived for."""

    report: Report
    baseline: Row
    rows: tuple[Row, ...]


def read_source(path: Path, names: Sequence[str]) -> Source:
    """Read a report, and choose the rows `names`, or all but the baseline where there are none.

    Raises InputError where the file is no report, has no baseline that others can be compared with, no other row, or a
    chosen row was not scored; UsageError for a name that no row has.
    """
    report = read_report(path)
    baseline = report.baseline
    if baseline is None:
        raise InputError(f"{path}: no row is the baseline, and limits are relative to one; measure with --baseline")
    if baseline.error is not None:
        raise InputError(f"{path}: the baseline {baseline.name} was not scored; mend it, and measure again")
    if baseline.beats_nothing is False:
        raise InputError(f"{path}: {weak(baseline).partition(';')[0]}; measure with a better --baseline")
    rows = tuple(_chosen(report, names))
    if not rows:
        raise InputError(f"{path}: no row but the baseline {baseline.name}; measure another checkpoint beside it")
    if lost := [row.name for row in rows if row.error is not None]:
        raise InputError(f"{path}: {', '.join(lost)} was not scored; mend it, or name the others with --row")
    if not report.dataset.questions:
        raise InputError(f"{path}: no question was asked; measure on data with questions")
    return Source(report, baseline, rows)


def _chosen(report: Report, names: Sequence[str]) -> list[Row]:
    others = [row for row in report.rows if not row.baseline]
    for name in names:
        if not any(row.name == name for row in others):
            known = ", ".join(row.name for row in others) or "the baseline alone"
            raise UsageError(f"--row {name}: no row to judge is called so; the report has {known}")
    return [row for row in others if not names or row.name in names]


def runs_of(row: Row) -> tuple[Row, ...]:
    """The runs whose mean a row is; the row alone where it is of one."""
    return row.runs or (row,)


def pairs_of(row: Row, baseline: Row) -> list[tuple[Row, Row]] | None:
    """Each run of a row with the baseline's run of the same seed; None where they are not such pairs."""
    own, base = runs_of(row), runs_of(baseline)
    rows = [baseline, row, *base, *own]
    first = 2 + len(base)
    layout = Layout.of(rows, {0: list(range(2, first)), 1: list(range(first, len(rows)))})
    found = layout.pairs.get(1)
    return None if found is None or len(own) < 2 else [(rows[at], rows[other]) for at, other in found.items()]
