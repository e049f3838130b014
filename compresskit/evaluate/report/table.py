"""The report as a table for the terminal: as many columns as fit, and no number wrapped or cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresskit.evaluate import overlap
from compresskit.evaluate.explained import told_bytes
from compresskit.evaluate.figures import WEIGHTS_LEFT, Figure, Group, asked_figure
from compresskit.evaluate.look import told_blind
from compresskit.evaluate.mean import told_of_runs
from compresskit.evaluate.nothing import marked
from compresskit.evaluate.nothing import told as told_of_nothing
from compresskit.evaluate.report.against import differences, ratios
from compresskit.evaluate.report.gate_lines import gate_lines
from compresskit.evaluate.report.grid import Grid, folded
from compresskit.evaluate.report.slice_table import MEANING, NO_SLICES, TEXTS, SliceTable, slice_table
from compresskit.evaluate.report.times import RATIO_FIGURES, any_ratio, ratio_in, told_of_times
from compresskit.evaluate.row import FIGURES, Flip, Report, Row
from compresskit.evaluate.runs import singles, with_runs
from compresskit.evaluate.same import told_same
from compresskit.evaluate.units import PER_CENT, POINTS, UNMEASURED, bounded, per_cent, threshold
from compresskit.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

MARK = "*"
"""Stands behind the best value of a column where the terminal has no colours; elsewhere that is bold and
green."""

_INDENT = "  "

_VALUE_WIDTH = 24
"""Values of slices are folded to so many characters."""
_SLICE_HEADINGS = {"p corrected": "p\ncorrected"}
_SLICE_RANKS = {"p": 3, "Questions": 2, "F1": 1}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the key of what it shows of a row, and its heading.

    `rank` orders the columns by how soon they are left out where the terminal is narrow: the highest goes first, 0
    stays, and None stands on the HTML page alone. `figure` is None for a column of texts.
    """

    key: str
    heading: str
    rank: int | None
    figure: Figure | None = None

    def value(self, row: Row) -> float | None:
        """The figure of a row; None where it was not measured, or the column is one of texts."""
        if self.figure is None:
            return None
        if self.key in RATIO_FIGURES:
            return ratio_in(row, self.key)
        return row.weights_left if self.figure is WEIGHTS_LEFT else row.value(self.key)

    def show(self, row: Row) -> str:
        """What stands in a row's cell."""
        if self.figure is None:
            text = printable(str(getattr(row, self.key)))
            return UNMEASURED if text == "-" else text
        value = self.value(row)
        if value is None:
            return UNMEASURED
        return bounded(self.figure.unit.cell(value), value) + around(row, self.key, self.figure)

    def best(self, rows: Sequence[Row]) -> float | None:
        """The best figure; None where there is nothing to compare."""
        values = {value for row in rows if (value := self.value(row)) is not None}
        if self.figure is None or self.figure.better is None or len(values) < 2:
            return None
        return max(values) if self.figure.better == "higher" else min(values)


def around(row: Row, key: str, figure: Figure) -> str:
    """How far the runs of a mean lie from it, as it stands behind a figure: ` ± 0.42`; empty where there are none."""
    spread = (row.sd or {}).get(key)
    if spread is None:
        return ""
    return f" ± {(PER_CENT if figure.unit is POINTS else figure.unit).cell(spread)}"


def run_name(run: Row, mean: Row) -> str:
    """The name of a run below the row that it is of: without the beginning that is the row's own name."""
    return run.name.removeprefix(f"{mean.name}-") or run.name


def _column(key: str, figure: Figure) -> Column:
    return Column(key, figure.heading, figure.rank, figure)


def _described() -> list[Column]:
    """Columns of all figures that have one, in their order."""
    order = list(Group)
    found = [(key, figure, order.index(figure.group)) for key, figure in _FIGURES.items() if figure.group is not None]
    found.sort(key=lambda each: (each[2], each[1].rank is None, each[1].last))
    return [_column(key, figure) for key, figure, _ in found]


_FIGURES = {"weights_left": WEIGHTS_LEFT, **FIGURES}
PAGE_COLUMNS: Sequence[Column] = (Column("method", "Method", 9), *_described())
"""The columns of the HTML page."""
COLUMNS: Sequence[Column] = tuple(column for column in PAGE_COLUMNS if column.rank is not None)
"""The columns of the tables."""


def columns_of(report: Report, known: Sequence[Column] = COLUMNS) -> list[Column]:
    """The columns of a report: of those that are paired where there is a baseline, and of what was asked for."""
    has_pairs = report.baseline is not None
    columns = [column for column in known if column.figure is None or has_pairs or not column.figure.paired]
    measured = [_column(key, figure) for key, figure in RATIO_FIGURES.items() if any_ratio(report.rows, key)]
    paired = [number for number, each in enumerate(columns, start=1) if each.figure and each.figure.paired]
    at = max(paired, default=len(columns))
    columns[at:at] = measured
    names = dict.fromkeys(name for row in report.rows for name in row.named)
    return columns + [_column(name, asked_figure(name)) for name in names]


def render(report: Report) -> TerminalTable:
    """The table; `console.out` lays it out for the terminal's width."""
    return TerminalTable(report)


class TerminalTable:
    """A rich renderable that chooses its columns when it learns the width."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._columns = columns_of(report)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, what it stands on, what was left out, and why a row is empty."""
        from rich.text import Text

        colored = console.color_system is not None
        table, left_out = self._grid(colored).fitted(options.max_width)
        yield table
        yield Text(foot(self._report), style="dim")
        if left_out:
            yield Text(f"left out for width: {', '.join(left_out)}; --format json has everything", style="dim")
        for grid in filter(None, (differences(self._report), ratios(self._report))):
            yield Text("")
            table, left_out = grid.fitted(options.max_width)
            yield table
            if left_out:
                yield Text(f"left out for width: {', '.join(left_out)}", style="dim")
        yield Text("")
        for note in notes(self._report):
            yield Text(note, style="dim")
        for key in self._report.shown:
            yield from _slices(slice_table(self._report, key), options.max_width)
        for row in singles(self._report.rows):
            for flip in row.flips:
                yield Text(tell(flip, row), style="")
        for line in gate_lines(self._report.gates):
            gate = line.gate
            yield Text(line.text, style="red" if not gate.passed else "yellow" if gate.undecided else "green")
        for row in self._report.rows:
            if row.error is not None and len(self._report.rows) > 1:  # that of the only one is what the call ends with
                yield Text(f"{row.name}: not scored: {row.error}", style="red")

    def _grid(self, colored: bool) -> Grid:
        """All columns, with the best of each in bold, or behind a mark where there are no colours.

        The runs of a mean stand below it, indented and dim; they are no rows of their own, so none of them is best.
        """
        rows, columns = with_runs(self._report.rows), self._columns
        names = {id(run): run_name(run, row) for row in self._report.rows for run in row.runs or ()}
        lines: list[list[str]] = [
            [printable(_INDENT + names[id(row)] if id(row) in names else marked(row))] for row in rows
        ]
        styles = {
            (line, at): "dim" for line, row in enumerate(rows) if id(row) in names for at in range(len(columns) + 1)
        }
        for number, column in enumerate(columns, start=1):
            best = column.best(self._report.rows)
            for line, row in enumerate(rows):
                is_best = best is not None and column.value(row) == best and id(row) not in names
                mark = "" if colored or best is None else MARK if is_best else " "
                lines[line].append(column.show(row) + mark)
                if is_best:
                    styles[line, number] = "bold green"
        texts = frozenset({0, *(number for number, column in enumerate(columns, start=1) if column.figure is None)})
        headings = ["Name", *(printable(column.heading) for column in columns)]
        return Grid(headings, lines, [0, *(column.rank or 0 for column in columns)], 0, texts, styles)


def foot(report: Report) -> str:
    """One line on what the figures stand on: questions, device, kind of memory."""
    data = report.dataset
    parts = [f"{data.path}: {counted(data.questions, 'question')}, {data.unanswerable:,} unanswerable"]
    if data.sampled_from is not None:
        parts.append(f"a sample of whole paragraphs out of {data.sampled_from:,} questions, seed {data.seed}")
    devices = [row.device for row in report.rows if row.device] or [report.device]
    parts += dict.fromkeys(str(device["name"]) for device in devices if "name" in device)
    kinds = {row.peak_memory_kind for row in report.rows} - {None}
    meaning = {"cuda": "memory is CUDA memory allocated", "rss": "memory is the process's resident set"}
    parts.extend(meaning[kind] for kind in sorted(filter(None, kinds)))
    return "; ".join(parts)


def notes(report: Report) -> list[str]:
    """Lines on what the columns do not tell: answering nothing, null thresholds, times."""
    best = [
        f"{row.name} {per_cent(row.best_em)} at {threshold(row.best_null_threshold)}"
        for row in report.rows
        if row.best_em is not None and row.best_null_threshold is not None
    ]
    lines = [f"EM at the null threshold that suits these questions best: {', '.join(best)}"] if best else []
    given: dict[str, list[str]] = {}
    for row in report.rows:
        if row.null_threshold:
            given.setdefault(threshold(row.null_threshold), []).append(row.name)
    if given:
        tuned = dict.fromkeys(row.settings["tune_data"] for row in report.rows if row.settings.get("tune_data"))
        scored = sum(row.em is not None for row in report.rows)
        known = "; ".join(_of_rows(value, names, scored) for value, names in given.items())
        lines.insert(0, f"null threshold{''.join(f', tuned on {data}' for data in tuned)}: {known}")
    lines = [*told_of_runs(report), *told_of_nothing(report), *lines, *told_same(report), *told_bytes(report)]
    lines += _unlike_settings(singles(report.rows))
    return [*lines, *told_of_times(report), *overlap.told(report), *told_blind(report)]


def _of_rows(value: str, names: Sequence[str], scored: int) -> str:
    """What is the same in some of the `scored` rows."""
    if len(names) == 1:
        return f"{names[0]} {value}"
    return f"{value} of {'all' if len(names) == scored else ', '.join(names)}"


def _slices(found: SliceTable, width: int) -> Iterator[RenderableType]:
    """The slices of one key, with what stands out in bold and behind a mark; a value stands once above its rows."""
    from rich.text import Text

    yield Text("")
    if not found.lines:
        yield Text(f"{found.key}: {NO_SLICES}", style="dim")
        return
    lines, last = [], None
    for number, (value, name, *figures) in enumerate(found.lines):
        mark = MARK if number in found.marked else " " if found.marked else ""
        shown = folded(value, _VALUE_WIDTH) if value != last else ""
        lines.append([shown, printable(name), *figures[:-1], figures[-1] + mark])
        last = value
    styles = {(number, column): "bold" for number in found.marked for column in range(1, len(found.headings))}
    headings = [
        folded(found.key, _VALUE_WIDTH),
        *(_SLICE_HEADINGS.get(heading, heading) for heading in found.headings[1:]),
    ]
    ranks = [_SLICE_RANKS.get(heading, 0) for heading in found.headings]
    table, left_out = Grid(headings, lines, ranks, TEXTS - 1, frozenset(range(TEXTS)), styles).fitted(width)
    yield table
    if left_out:
        yield Text(f"left out for width: {', '.join(left_out)}", style="dim")
    if found.marked:
        yield Text(f"{MARK} {MEANING}", style="dim")


def _unlike_settings(rows: Sequence[Row]) -> list[str]:
    """A line for each setting in which rows differ: they do not compare in all they tell."""
    asked = [row for row in rows if row.settings]
    lines = []
    for key in dict.fromkeys(key for row in asked for key in row.settings):
        values = [row.settings.get(key) for row in asked]
        if any(value != values[0] for value in values):
            shown = ", ".join(f"{row.name} {value}" for row, value in zip(asked, values, strict=True))
            lines.append(f"measured with another {key.replace('_', ' ')}: {shown}")
    return lines


def tell(flip: Flip, row: Row) -> str:
    """A question that flipped in one line: whose it is, what was asked, and the answers."""

    def shown(text: str) -> str:
        return f"“{text}”" if text else "no answer"

    gold = " or ".join(map(shown, flip.gold)) or "no answer"
    verb = "won" if flip.won else "lost"
    answers = f"right: {gold}; baseline: {shown(flip.baseline)}; now: {shown(flip.answer)}"
    return f"{row.name} {verb}: {flip.question} – {answers}"
