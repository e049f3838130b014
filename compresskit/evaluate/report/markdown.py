"""The report as a Markdown table, for a pull request or the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from compresskit.evaluate.nothing import marked
from compresskit.evaluate.report.against import differences, ratios
from compresskit.evaluate.report.gate_lines import gate_lines
from compresskit.evaluate.report.grid import Grid
from compresskit.evaluate.report.slice_table import MEANING, NO_SLICES, TEXTS, SliceTable, slice_table
from compresskit.evaluate.report.table import columns_of, foot, notes, run_name
from compresskit.evaluate.row import Report
from compresskit.text import printable

_TAG = re.compile("<(?=[A-Za-z/!?])")
_SIGNS = {"holds": "✅", "fails": "❌", "undecided": "❔"}


def render(report: Report) -> str:
    """Every column of the terminal's table, best values in bold, and the verdicts of the gates below."""
    columns = columns_of(report)
    bests = [column.best(report.rows) for column in columns]
    lines = [
        _line(["Name", *(column.heading.replace("\n", " ") for column in columns)]),
        _line(["---", *("---:" if column.figure else "---" for column in columns)]),
    ]
    for row in report.rows:
        cells = [marked(row)]
        for column, best in zip(columns, bests, strict=True):
            shown = column.show(row)
            is_best = best is not None and column.value(row) == best
            cells.append(f"**{shown}**" if is_best else shown)
        lines.append(_line(cells))
        lines += [
            _line([f"↳ {run_name(run, row)}", *(column.show(run) for column in columns)]) for run in row.runs or ()
        ]
    lines += ["", _escaped(foot(report)), *([""] + [f"- {_escaped(line)}" for line in notes(report)])]
    for grid in filter(None, (differences(report), ratios(report))):
        lines += ["", *_grid(grid)]
    if report.gates:
        lines.append("")
    lines += [f"- {_SIGNS[line.gate.verdict]} {_escaped(line.text)}" for line in gate_lines(report.gates)]
    lines += [f"- {_escaped(row.name)}: not scored: {_escaped(row.error)}" for row in report.rows if row.error]
    lines += [line for key in report.shown for line in _slices(slice_table(report, key))]
    return printable("\n".join(lines))


def _grid(grid: Grid) -> Iterator[str]:
    """A table, whole."""
    yield _line(grid.headings)
    yield _line(["---" if at in grid.texts else "---:" for at in range(len(grid.headings))])
    yield from map(_line, grid.lines)


def _slices(found: SliceTable) -> Iterator[str]:
    """A table of the slices of one key, with what stands out in bold."""
    yield ""
    if not found.lines:
        yield f"{found.key}: {NO_SLICES}"
        return
    yield _line(found.headings)
    yield _line(["---" if number < TEXTS else "---:" for number in range(len(found.headings))])
    for number, cells in enumerate(found.lines):
        yield _line([f"**{cell}**" for cell in cells] if number in found.marked else cells)
    if found.marked:
        yield f"\nBold: {MEANING}."


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """A cell's own bars and line feeds would end it, and tags would be taken for HTML."""
    return _TAG.sub("&lt;", text.replace("|", "\\|").replace("\n", " "))
