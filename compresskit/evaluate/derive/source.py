"""A saved report as limits are derived from it: the baseline, the rows that are judged, and the runs of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.errors import InputError, UsageError
from compresskit.evaluate.combine import report_text
from compresskit.evaluate.nothing import weak
from compresskit.evaluate.row import Report, Row
from compresskit.text import from_json, to_json


@dataclass(frozen=True, slots=True)
class Source:
    """A report with its baseline, the rows that gates are derived for, and the runs of rows by their names.

    A row without runs is one run itself.
    """

    report: Report
    baseline: Row
    rows: tuple[Row, ...]
    runs: Mapping[str, tuple[Row, ...]]

    def runs_of(self, row: Row) -> tuple[Row, ...]:
        """The runs whose mean a row is; the row alone where it is of one."""
        return self.runs.get(row.name) or (row,)


def read_source(path: Path, names: Sequence[str]) -> Source:
    """Read a report, and choose the rows `names`, or all but the baseline where there are none.

    Raises InputError where the file is no report, has no baseline that others can be compared with, no other row, or a
    chosen row was not scored; UsageError for a name that no row has.
    """
    report, runs = _read(path)
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
    return Source(report, baseline, rows, runs)


def _chosen(report: Report, names: Sequence[str]) -> list[Row]:
    others = [row for row in report.rows if not row.baseline]
    for name in names:
        if not any(row.name == name for row in others):
            known = ", ".join(row.name for row in others) or "the baseline alone"
            raise UsageError(f"--row {name}: no row to judge is called so; the report has {known}")
    return [row for row in others if not names or row.name in names]


def _read(path: Path) -> tuple[Report, dict[str, tuple[Row, ...]]]:
    """A report, and the runs of its rows by their names; rows of an earlier version have none."""
    text, lists = report_text(path), {}
    try:
        value = from_json(text)
        rows = value["rows"]
        lists = {row["name"]: runs for row in rows if (runs := _taken(row))}
        text = to_json(value)
    except (ValueError, TypeError, KeyError, AttributeError):  # what is wrong with it is told by whoever reads it
        return Report.from_json(text, str(path)), {}
    report = Report.from_json(text, str(path))
    found = {}
    for name, runs in lists.items():
        where = f"{path}: the runs of {name}"
        found[name] = Report.from_json(to_json({**value, "rows": runs, "gates": []}), where).rows
        if lost := [run.name for run in found[name] if run.error is not None]:
            raise InputError(f"{where}: {', '.join(lost)} was not scored; mend it, and measure again")
    return report, found


def _taken(row: dict[str, Any]) -> list[Any]:
    """Take the runs out of a row, each without runs of its own, so that all are rows of one run."""
    runs = row.pop("runs", None) or []
    for each in (row, *runs):
        each.pop("runs", None)
        each.pop("sd", None)
    return list(runs) if len(runs) > 1 else []
