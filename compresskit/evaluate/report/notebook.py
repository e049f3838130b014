"""The report as a table for a notebook: in the notebook's own colours, light or dark, and with nothing to load.

Styles stand in the tags: a notebook that is not trusted shows no style sheet.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from compresskit.evaluate.nothing import marked
from compresskit.evaluate.report.gate_lines import gate_lines
from compresskit.evaluate.report.table import columns_of, foot, notes, run_name
from compresskit.evaluate.row import Report, Row
from compresskit.text import printable

_NUMBER, _TEXT = "text-align:right;white-space:nowrap", "text-align:left"
_BEST = "font-weight:bold;background:rgba(40,160,90,0.25)"
_BASELINE = "background:rgba(128,128,128,0.15)"
_SMALL = "font-size:0.85em;opacity:0.75"
_SIGNS = {"holds": "✅", "fails": "❌", "undecided": "❔"}


def render(report: Report) -> str:
    """The columns of the terminal's table, with the best of each marked, and the verdicts of the gates below."""
    columns = columns_of(report)
    bests = [column.best(report.rows) for column in columns]
    styles = [_NUMBER if column.figure is not None else _TEXT for column in columns]
    headings = [_cell("th", "Name", _TEXT)]
    headings += [_cell("th", column.heading, style) for column, style in zip(columns, styles, strict=True)]
    lines = [f"<thead><tr>{''.join(headings)}</tr></thead>", "<tbody>"]
    for row in report.rows:
        cells = [_cell("th", marked(row), _TEXT)]
        for column, best, style in zip(columns, bests, styles, strict=True):
            is_best = best is not None and column.value(row) == best
            cells.append(_cell("td", column.show(row), f"{style};{_BEST}" if is_best else style))
        lines.append(_line(cells, _BASELINE if row.baseline else ""))
        for run in row.runs or ():  # no rows of their own, so none of them is best
            shown = [_cell("td", column.show(run), style) for column, style in zip(columns, styles, strict=True)]
            lines.append(_line([_cell("th", f"↳ {run_name(run, row)}", _TEXT), *shown], _SMALL))
    table = f'<div style="overflow-x:auto"><table>{"".join(lines)}</tbody></table></div>'
    return "\n".join([f"<div>{table}", *_below(report), "</div>"])


def _below(report: Report) -> Iterator[str]:
    """Yield what stands below the table: verdicts, what could not be scored, what the figures stand on."""
    for line in gate_lines(report.gates):
        yield f"<div>{_SIGNS[line.gate.verdict]} {_escaped(line.text)}</div>"
    yield from (f"<div>❌ {_escaped(row.name)}: not scored: {_escaped(row.error)}</div>" for row in _lost(report.rows))
    told = "".join(f"<div>{_escaped(note)}</div>" for note in notes(report))
    yield f'<div style="{_SMALL}">{_escaped(foot(report))}'
    yield f"<details><summary>notes</summary>{told}</details></div>" if told else "</div>"


def _lost(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.error is not None]


def _line(cells: Sequence[str], style: str) -> str:
    return f'<tr style="{style}">{"".join(cells)}</tr>'


def _cell(tag: str, text: str, style: str) -> str:
    return f'<{tag} style="{style}">{_escaped(text)}</{tag}>'


def _escaped(text: object) -> str:
    return html.escape(printable(str(text))).replace("\n", "<br>")
