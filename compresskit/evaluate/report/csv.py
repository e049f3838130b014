"""The report as comma-separated values: one line a row, under the keys of the JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import fields

from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import with_runs
from compresskit.text import printable

# A spreadsheet takes a cell that begins so for a formula, which can read other cells and ask the network.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

# What is not a single value; the JSON has it.
_NESTED = (
    *("metrics", "device", "versions", "settings", "manifest", "flips"),
    *("slices", "overlap", "blind", "turns", "bytes_explained", "runs", "sd"),
)
_RUN_OF = "run_of"


def render(report: Report) -> str:
    """The rows as CSV (RFC 4180 but for line feeds): empty where not measured, an interval as `low high`.

    A ratio is its median. Each of the metrics that were asked for has a column of its own name; what is not a single
    value is left out. The runs of a mean stand behind it, as rows that name it under `run_of`; `KEY_sd` is the standard
    deviation of a figure over them. A text that a spreadsheet would compute has an apostrophe before it; numbers stay
    numbers.
    """
    names = list(dict.fromkeys(name for row in report.rows for name in row.named))
    names += dict.fromkeys(f"{key}_sd" for row in report.rows for key in row.sd or {})
    keys = [*(field.name for field in fields(Row) if field.name not in _NESTED), _RUN_OF]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*keys, *map(_cell, names)])
    mean_of = {id(run): row.name for row in report.rows for run in row.runs or ()}
    for row in with_runs(report.rows):
        values = {**_flat(row), _RUN_OF: _cell(mean_of.get(id(row)))}
        writer.writerow([values.get(key) for key in (*keys, *names)])
    return printable(stream.getvalue().rstrip("\n"))


def _cell(value: object) -> object:
    """A value as it stands in a cell; the single `-` of what is not known is no formula."""
    is_formula = isinstance(value, str) and value != "-" and value.startswith(_FORMULA)
    return f"'{value}" if is_formula else value


def _flat(row: Row) -> Mapping[str, object]:
    values = {key: _cell(value) for key, value in row.to_dict().items() if key not in _NESTED}
    joined = {key: " ".join(map(str, value)) for key, value in values.items() if isinstance(value, tuple)}
    medians = {key: value["median"] for key, value in values.items() if isinstance(value, dict)}
    return {**values, **joined, **medians, **row.named, **{f"{key}_sd": sd for key, sd in (row.sd or {}).items()}}
