"""The report as a table for the terminal: as many columns as fit, and no number wrapped or cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresskit.evaluate import overlap
from compresskit.evaluate.explained import told_bytes
from compresskit.evaluate.figures import WEIGHTS_LEFT, Figure, Group, asked_figure
from compresskit.evaluate.gate import explain
from compresskit.evaluate.nothing import marked
from compresskit.evaluate.nothing import told as told_of_nothing
from compresskit.evaluate.report.slice_table import MEANING, NO_SLICES, TEXTS, SliceTable, slice_table
from compresskit.evaluate.report.times import RATIO_FIGURES, any_ratio, ratio_in, told_of_times
from compresskit.evaluate.row import FIGURES, Flip, Report, Row
from compresskit.evaluate.same import told_same
from compresskit.evaluate.units import bounded, per_cent, signed, threshold
from compresskit.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

UNMEASURED = "–"
MARK = "*"
"""Stands behind the best value of a column where the terminal has no colours; elsewhere that is bold and
green."""

_NAME_WIDTH = 16
"""Columns are left out before long names are folded to less than this many characters."""


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
            return printable(str(getattr(row, self.key)))
        value = self.value(row)
        return UNMEASURED if value is None else bounded(self.figure.unit.cell(value), value)

    def best(self, rows: Sequence[Row]) -> float | None:
        """The best figure; None where there is nothing to compare."""
        values = {value for row in rows if (value := self.value(row)) is not None}
        if self.figure is None or self.figure.better is None or len(values) < 2:
            return None
        return max(values) if self.figure.better == "higher" else min(values)


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
    columns += [_column(key, figure) for key, figure in RATIO_FIGURES.items() if any_ratio(report.rows, key)]
    names = dict.fromkeys(name for row in report.rows for name in row.metrics)
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

        columns = list(self._columns)
        while len(columns) > 1 and self._least_width(columns, console, options) > options.max_width:
            columns.remove(max(columns, key=lambda column: column.rank or 0))
        yield self._table(columns, console.color_system is not None)
        yield Text(foot(self._report), style="dim")
        left_out = [column.heading.replace("\n", " ") for column in self._columns if column not in columns]
        if left_out:
            yield Text(f"left out for width: {', '.join(left_out)}; --format json has everything", style="dim")
        for line in notes(self._report):
            yield Text(line, style="dim")
        for key in self._report.shown:
            yield from _slices(slice_table(self._report, key))
        for row in self._report.rows:
            for flip in row.flips:
                yield Text(tell(flip, row), style="")
        for gate in self._report.gates:
            yield Text(explain(gate), style="red" if not gate.passed else "yellow" if gate.undecided else "green")
        for row in self._report.rows:
            if row.error is not None:
                yield Text(f"{row.name}: not scored: {row.error}", style="red")

    def _least_width(self, columns: Sequence[Column], console: Console, options: ConsoleOptions) -> int:
        """The width at which no number wraps and names keep `_NAME_WIDTH` characters, in cells."""
        probe = self._table(columns, console.color_system is not None, name_width=_NAME_WIDTH)
        # In so wide a terminal the table measures what it needs, not what it would get.
        return console.measure(probe, options=options.update(width=10_000)).minimum

    def _table(self, columns: Sequence[Column], colored: bool, name_width: int | None = None) -> Table:
        """A table of `columns`; `name_width` fixes the width of the names."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        rows = self._report.rows
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        # Made printable before it is measured: the console would do so after.
        names = [printable(marked(row)) for row in rows]
        if name_width is not None:
            name_width = min(name_width, max(map(len, names), default=0))
        table.add_column("Name", overflow="fold", width=name_width)
        for column in columns:
            table.add_column(column.heading, justify="right" if column.figure else "left", no_wrap=True)
        bests = [column.best(rows) for column in columns]
        for row, name in zip(rows, names, strict=True):
            cells = [Text(name)]
            for column, best in zip(columns, bests, strict=True):
                is_best = best is not None and column.value(row) == best
                mark = "" if colored or best is None else MARK if is_best else " "
                cells.append(Text(column.show(row) + mark, style="bold green" if is_best else ""))
            table.add_row(*cells)
        return table


def foot(report: Report) -> str:
    """One line on what the figures stand on: questions, device, kind of memory."""
    data = report.dataset
    parts = [f"{data.path}: {data.questions} questions, {data.unanswerable} unanswerable"]
    if data.sampled_from is not None:
        parts.append(f"a sample of whole paragraphs out of {data.sampled_from} questions, seed {data.seed}")
    devices = [row.device for row in report.rows if row.device] or [report.device]
    parts += dict.fromkeys(str(device["name"]) for device in devices if "name" in device)
    kinds = {row.peak_memory_kind for row in report.rows} - {None}
    meaning = {"cuda": "memory is CUDA memory allocated", "rss": "memory is the process's resident set"}
    parts.extend(meaning[kind] for kind in sorted(filter(None, kinds)))
    return "; ".join(parts)


def notes(report: Report) -> list[str]:
    """Lines on what the columns do not tell: answering nothing, null thresholds, statistics of the differences."""
    best = [
        f"{row.name} {per_cent(row.best_em)} at {threshold(row.best_null_threshold)}"
        for row in report.rows
        if row.best_em is not None and row.best_null_threshold is not None
    ]
    lines = [f"EM at the null threshold that suits these questions best: {', '.join(best)}"] if best else []
    given = [f"{row.name} {threshold(row.null_threshold)}" for row in report.rows if row.null_threshold]
    if given:
        tuned = dict.fromkeys(row.settings["tune_data"] for row in report.rows if row.settings.get("tune_data"))
        lines.insert(0, f"null threshold{''.join(f', tuned on {data}' for data in tuned)}: {', '.join(given)}")
    lines = [*told_of_nothing(report), *lines, *told_same(report), *told_bytes(report), *_unlike_settings(report.rows)]
    lines += told_of_times(report)
    lines += overlap.told(report)
    if report.baseline is None:
        return lines
    return lines + [line for row in report.rows if (line := _difference(row)) is not None]


def _slices(found: SliceTable) -> Iterator[RenderableType]:
    """The slices of one key, with what stands out in bold, or behind a mark where there are no colours."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    yield Text("")
    if not found.lines:
        yield Text(f"{found.key}: {NO_SLICES}", style="dim")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, heading in enumerate(found.headings):
        table.add_column(printable(heading), justify="left" if number < TEXTS else "right", overflow="fold")
    for number, cells in enumerate(found.lines):
        is_marked = number in found.marked
        shown = [*cells[:-1], cells[-1] + (MARK if is_marked else " " if found.marked else "")]
        table.add_row(*(Text(printable(cell), style="bold" if is_marked else "") for cell in shown))
    yield table
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


def _difference(row: Row) -> str | None:
    """What the pairing with the baseline tells about a row, in one line; None where it was not paired."""
    if row.delta_em is None or row.delta_em_ci95 is None or row.p_value is None:
        return None
    low, high = row.delta_em_ci95
    line = f"Δ EM of {row.name}: {signed(row.delta_em)}, 95 % interval {signed(low)} to {signed(high)}"
    line += f", p = {row.p_value:.2g}"
    if row.questions_won is not None and row.questions_lost is not None:
        line += f", {row.questions_won} won, {row.questions_lost} lost"
    if row.delta_f1 is not None and row.delta_f1_ci95 is not None:
        low, high = row.delta_f1_ci95
        line += f"; Δ F1 {signed(row.delta_f1)}, {signed(low)} to {signed(high)}"
    return line


def tell(flip: Flip, row: Row) -> str:
    """A question that flipped in one line: whose it is, what was asked, and the answers."""

    def shown(text: str) -> str:
        return f"“{text}”" if text else "no answer"

    gold = " or ".join(map(shown, flip.gold)) or "no answer"
    verb = "won" if flip.won else "lost"
    answers = f"right: {gold}; baseline: {shown(flip.baseline)}; now: {shown(flip.answer)}"
    return f"{row.name} {verb}: {flip.question} – {answers}"
