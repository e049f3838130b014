"""The report as one HTML file that needs nothing else: no network, and a script only to sort the table.

What is shown is laid out here; the templates in the folder `page` (`page.html.j2` first) say how it is marked up.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from compresskit.evaluate import gate as gates
from compresskit.evaluate import overlap
from compresskit.evaluate.explained import told_bytes
from compresskit.evaluate.look import told, told_blind
from compresskit.evaluate.mean import told_of_runs
from compresskit.evaluate.report.drawing import HEIGHT, WIDTH, draw
from compresskit.evaluate.report.gate_lines import groups
from compresskit.evaluate.report.page.columns import Cell, PageColumn, page_columns
from compresskit.evaluate.report.page.lineage import Lineage, Pairs, lineage, pairs
from compresskit.evaluate.report.scatter import scatters
from compresskit.evaluate.report.slice_table import MEANING, TEXTS, slice_table
from compresskit.evaluate.report.table import around, foot, run_name
from compresskit.evaluate.report.times import told_of_times
from compresskit.evaluate.row import FIGURES, Flip, Gate, Report, Row
from compresskit.evaluate.same import told_same
from compresskit.evaluate.slices import keys_of
from compresskit.evaluate.units import UNMEASURED, per_cent
from compresskit.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment

_REMARKS = (told_of_runs, told_same, told_bytes, told_of_times, overlap.told, told_blind)
"""What is told below the table."""

# Of the usual system fonts, in parts of their size.
_LETTER_WIDTH = 0.56


@dataclass(frozen=True, slots=True)
class GateView:
    """A verdict in words, on all checkpoints of `names` where it is the same; `phrase` is the whole of it."""

    gate: Gate
    names: str
    value: str
    limit: str
    phrase: str


@dataclass(frozen=True, slots=True)
class FlipView:
    """A flip, its context cut around the first place of the right answer (`found` is empty where it has none)."""

    flip: Flip
    before: str
    found: str
    after: str


@dataclass(frozen=True, slots=True)
class RowView:
    """A row with its cells, and all that its details tell; `runs` are those of a mean. `key` is its own on the page."""

    row: Row
    key: str
    name: str
    cells: tuple[Cell, ...]
    failed: int
    figures: str
    facts: Pairs
    device: Pairs
    versions: Pairs
    lineage: Lineage | None
    lost: tuple[FlipView, ...]
    won: tuple[FlipView, ...]
    runs: tuple[RowView, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether there is any figure of the row."""
        return any(cell.figure is not None for cell in self.cells)


def render(report: Report) -> str:
    """The page; the same report gives the same text."""
    columns = page_columns(report)
    devices = [row.device for row in report.rows if row.device] or [report.device]
    failed, held = ([gate for gate in report.gates if gate.passed is passed] for passed in (False, True))
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            data_name=PurePosixPath(report.dataset.path).name or report.dataset.path,
            failed=_gates(failed),
            held=_gates(held),
            counts=(len(failed), len(held)),
            unscored=[row.name for row in report.rows if row.error is not None],
            columns=columns,
            groups=_groups(columns),
            folded=sum(column.is_lesser for column in columns),
            rows=list(_rows(report, columns)),
            runs=sum(len(row.runs or ()) for row in report.rows),
            foot=foot(report),
            remarks=[line for told in _REMARKS for line in told(report)],
            slices=[slice_table(report, key) for key in keys_of(report)],
            slice_texts=TEXTS,
            slice_meaning=MEANING,
            drawings=[draw(scatter, _LETTER_WIDTH) for scatter in scatters(report)],
            size=(WIDTH, HEIGHT),
            devices=list(dict.fromkeys(str(device["name"]) for device in devices if "name" in device)),
            device=pairs(report.device),
            versions=pairs(report.versions),
        )
    )
    return printable(page)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("page")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _groups(columns: Sequence[PageColumn]) -> list[tuple[str, int, int]]:
    """Each group of columns with how many these are, as they follow each other: without the lesser ones, and all."""
    found = []
    for name, alike in itertools.groupby(columns, key=lambda column: column.group):
        members = list(alike)
        found.append((name, sum(not column.is_lesser for column in members), len(members)))
    return found


def _rows(report: Report, columns: Sequence[PageColumn]) -> Iterator[RowView]:
    """Yield the views of all rows, each with those of its runs."""
    lines = (tuple(cells) for cells in zip(*(column.cells for column in columns), strict=True))
    for number, row in enumerate(report.rows, start=1):
        whole = _row(report, row, f"row-{number}", row.name, next(lines))
        runs = enumerate(row.runs or (), start=1)
        views = [_row(report, run, f"{whole.key}-{at}", run_name(run, row), next(lines)) for at, run in runs]
        yield replace(whole, runs=tuple(views))


def _row(report: Report, row: Row, key: str, name: str, cells: tuple[Cell, ...]) -> RowView:
    return RowView(
        row,
        key,
        name,
        cells,
        sum(gate.row == row.name and not gate.passed for gate in report.gates),
        _figures(row),
        _facts(row),
        pairs(row.device or report.device),
        pairs(row.versions or report.versions),
        None if row.manifest is None else lineage(row.manifest),
        tuple(_flip(flip) for flip in row.flips if not flip.won),
        tuple(_flip(flip) for flip in row.flips if flip.won),
    )


def _figures(row: Row) -> str:
    """What matters most of a row, in one line."""
    figures = (
        None if row.em is None else f"EM {per_cent(row.em)}{around(row, 'em', FIGURES['em'])}",
        *(_alone(row, name) for name in ("deploy_bytes", "latency_ms_p50")),
    )
    return " · ".join(filter(None, figures))


def _alone(row: Row, name: str) -> str | None:
    value = row.value(name)
    return None if value is None else FIGURES[name].unit.alone(value)


def _facts(row: Row) -> Pairs:
    """What a row is and how it was measured, other than its columns."""
    best = None
    if row.best_em is not None and row.best_null_threshold is not None:
        best = (
            f"{per_cent(row.best_em)} at null threshold {row.best_null_threshold:.4g}, chosen on these very questions"
        )
    return pairs(
        {
            "Path": row.path,
            "Runs": None if row.runs is None else [run.name for run in row.runs],
            "Family": row.family,
            "Method": row.method,
            "SHA-256": row.sha256,
            "Trainable": _alone(row, "params_trainable"),
            "Weights in 8 bits": row.arithmetic,
            "Null threshold": row.null_threshold,
            "Best EM": best,
            "Blind set": None if row.blind is None else told(row.blind),
            "Measured": row.created,
            "Predictions": row.predictions,
        }
    )


def _flip(flip: Flip) -> FlipView:
    gold = next((answer for answer in flip.gold if answer and answer in flip.context), None)
    return FlipView(flip, *((flip.context, "", "") if gold is None else flip.context.partition(gold)))


def _gates(found: Sequence[Gate]) -> list[GateView]:
    """The verdicts, in one those of checkpoints without a figure."""
    views = []
    for alike in groups(found):
        same = [alike] if alike[0].value is None else [[gate] for gate in alike]
        views += [_gate(each[0], ", ".join(gate.row for gate in each)) for each in same]
    return views


def _gate(gate: Gate, names: str) -> GateView:
    value, limit = gates.written(gate)
    value = UNMEASURED if gate.value is None else value
    limit = UNMEASURED if gate.limit is None else limit
    return GateView(gate, names, value, limit, gates.explain(replace(gate, row=names)))
