"""The report as comma-separated values: one line a row, under the keys of the JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import fields

from compresskit.evaluate.row import Report, Row


def render(report: Report) -> str:
    """Return the rows as CSV (RFC 4180 but for line feeds): empty where not measured, an interval as `low high`."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        values = row.to_dict()
        interval = row.delta_em_ci95
        values["delta_em_ci95"] = None if interval is None else f"{interval[0]} {interval[1]}"
        writer.writerow(values)
    return stream.getvalue().rstrip("\n")
