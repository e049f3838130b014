"""The report as comma-separated values: one line a row, under the keys of the JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import fields

from compresskit.evaluate.row import Report, Row

# What is not a single value; the JSON has it.
_NESTED = ("metrics", "device", "versions", "settings", "manifest", "flips")


def render(report: Report) -> str:
    """The rows as CSV (RFC 4180 but for line feeds): empty where not measured, an interval as `low high`.

    Each of the metrics that were asked for has a column of its own name; what is not a single value is left out.
    """
    names = list(dict.fromkeys(name for row in report.rows for name in row.metrics))
    keys = [field.name for field in fields(Row) if field.name not in _NESTED]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*keys, *names], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row) for row in report.rows)
    return stream.getvalue().rstrip("\n")


def _flat(row: Row) -> Mapping[str, object]:
    values = {key: value for key, value in row.to_dict().items() if key not in _NESTED}
    joined = {key: " ".join(map(str, value)) for key, value in values.items() if isinstance(value, tuple)}
    return {**values, **joined, **row.metrics}
