"""The report as a table for the terminal: as many columns as fit, and no number wrapped or cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresskit.evaluate.gate import explain
from compresskit.evaluate.row import Flip, Report, Row

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

UNMEASURED = "–"
MARK = "*"
"""Stands behind the best value of a column where the terminal has no colours; elsewhere that is bold and
green."""

_NAME_WIDTH = 16
"""Columns are left out before long names are folded to less than this many characters."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, how a row's cell is written, and which figures are best.

    ``rank`` orders the columns by how soon they are left out where the terminal is narrow: the highest goes
    first, 0 stays.
    """

    heading: str
    rank: int
    show: Callable[[Row], str]
    figure: Callable[[Row], float | None] | None = None
    best: Callable[[Sequence[float]], float] | None = None


def per_cent(value: float) -> str:
    """Return a per cent figure with two decimals."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """Return a difference in points with its sign; what rounds to nothing is +0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def count(value: float) -> str:
    """Return a number of things in three digits: 950, 1.25K, 22.6M, 1.50B."""
    return _scaled(value, ("", "K", "M", "B", "T"))


def size(value: float) -> str:
    """Return bytes in three digits and decimal units: 512 B, 90.3 MB."""
    return _scaled(value, (" B", " kB", " MB", " GB", " TB"))


def three_digits(value: float) -> str:
    """Return a plain figure in three digits: 0.25, 8.31, 52.0, 1234."""
    return f"{value:.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return 2 if value < 9.995 else 1 if value < 99.95 else 0


def _scaled(value: float, units: Sequence[str]) -> str:
    power = 0
    # 999.6 of one unit would be written as 1000.
    while value >= 999.5 and power < len(units) - 1:
        value /= 1000
        power += 1
    return f"{value:.{_decimals(value) if power else 0}f}{units[power]}"


def _weights_left(row: Row) -> float | None:
    if not row.params_total or row.params_nonzero is None:
        return None
    return 100.0 * row.params_nonzero / row.params_total


def number_column(
    heading: str,
    rank: int,
    figure: Callable[[Row], float | None],
    text: Callable[[float], str],
    best: Callable[[Sequence[float]], float] | None = None,
) -> Column:
    """Return a column of figures: how one is taken from a row and written, and which of them is best."""

    def show(row: Row) -> str:
        value = figure(row)
        return UNMEASURED if value is None else text(value)

    return Column(heading, rank, show, figure, best)


COLUMNS: Sequence[Column] = (
    Column("Method", 9, lambda row: row.method),
    number_column("EM", 0, lambda row: row.em, per_cent, max),
    number_column("F1", 1, lambda row: row.f1, per_cent, max),
    number_column("HasAns\nEM", 7, lambda row: row.has_ans_em, per_cent, max),
    number_column("HasAns\nF1", 11, lambda row: row.has_ans_f1, per_cent, max),
    number_column("NoAns\nEM", 8, lambda row: row.no_ans_em, per_cent, max),
    number_column("Δ EM", 2, lambda row: row.delta_em, signed),
    number_column("Weights\nleft %", 5, _weights_left, per_cent, min),
    number_column("Params", 12, lambda row: row.params_total, count, min),
    number_column("Disk", 3, lambda row: row.disk_bytes, size, min),
    number_column("Deploy", 10, lambda row: row.deploy_bytes, size, min),
    number_column("Memory", 6, lambda row: row.peak_memory_bytes, size, min),
    number_column("p50\nms", 4, lambda row: row.latency_ms_p50, three_digits, min),
    number_column("p95\nms", 14, lambda row: row.latency_ms_p95, three_digits, min),
    number_column("q/s", 13, lambda row: row.questions_per_s, three_digits, max),
)


def columns_of(report: Report) -> list[Column]:
    """Return the columns of a report: a difference where there is a baseline, and the metrics that were asked for."""
    columns = [column for column in COLUMNS if column.heading != "Δ EM" or report.baseline is not None]
    names = dict.fromkeys(name for row in report.rows for name in row.metrics)
    return columns + [_metric(name) for name in names]


def _metric(name: str) -> Column:
    """A column of a figure that was asked for; those of lm-evaluation-harness (task/metric) are no per cents."""
    best = min if name.endswith(("ppl", "perplexity", "bits_per_byte")) else max
    text = (lambda value: f"{value:.4g}") if "/" in name else per_cent
    return number_column(name, 1, lambda row: row.metrics.get(name), text, best)


def render(report: Report) -> TerminalTable:
    """Return the table; `console.out` lays it out for the terminal's width."""
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
            columns.remove(max(columns, key=lambda column: column.rank))
        yield self._table(columns, console.color_system is not None)
        yield Text(foot(self._report), style="dim")
        left_out = [column.heading.replace("\n", " ") for column in self._columns if column not in columns]
        if left_out:
            yield Text(f"left out for width: {', '.join(left_out)}; --format json has everything", style="dim")
        for line in notes(self._report):
            yield Text(line, style="dim")
        for row in self._report.rows:
            for flip in row.flips:
                yield Text(tell(flip, row), style="")
        for gate in self._report.gates:
            yield Text(explain(gate), style="green" if gate.passed else "red")
        for row in self._report.rows:
            if row.error is not None:
                yield Text(f"{row.name}: not scored: {row.error}", style="red")

    def _least_width(self, columns: Sequence[Column], console: Console, options: ConsoleOptions) -> int:
        """Return the width at which no number wraps and names keep `_NAME_WIDTH` characters, in cells."""
        probe = self._table(columns, console.color_system is not None, name_width=_NAME_WIDTH)
        # In so wide a terminal the table measures what it needs, not what it would get.
        return console.measure(probe, options=options.update(width=10_000)).minimum

    def _table(self, columns: Sequence[Column], colored: bool, name_width: int | None = None) -> Table:
        """Return a table of ``columns``; ``name_width`` fixes the width of the names."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        rows = self._report.rows
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        names = [f"{row.name} (baseline)" if row.baseline else row.name for row in rows]
        if name_width is not None:
            name_width = min(name_width, max(map(len, names), default=0))
        table.add_column("Name", overflow="fold", width=name_width)
        for column in columns:
            table.add_column(column.heading, justify="right" if column.figure else "left", no_wrap=True)
        bests = [best_of(column, rows) for column in columns]
        for row, name in zip(rows, names, strict=True):
            cells = [Text(name)]
            for column, best in zip(columns, bests, strict=True):
                is_best = best is not None and column.figure is not None and column.figure(row) == best
                mark = "" if colored or best is None else MARK if is_best else " "
                cells.append(Text(column.show(row) + mark, style="bold green" if is_best else ""))
            table.add_row(*cells)
        return table


def best_of(column: Column, rows: Sequence[Row]) -> float | None:
    """Return the best figure of a column; None where there is nothing to compare."""
    if column.figure is None or column.best is None:
        return None
    values = [value for row in rows if (value := column.figure(row)) is not None]
    return column.best(values) if len(set(values)) > 1 else None


def foot(report: Report) -> str:
    """Return one line on what the figures stand on: questions, device, kind of memory."""
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
    """Return lines on what the columns do not tell: null thresholds, and the statistics of the differences."""
    best = [
        f"{row.name} {per_cent(row.best_em)} at {row.best_null_threshold:.2f}"
        for row in report.rows
        if row.best_em is not None and row.best_null_threshold is not None
    ]
    lines = [f"EM at the null threshold that suits these questions best: {', '.join(best)}"] if best else []
    given = [f"{row.name} {row.null_threshold:.2f}" for row in report.rows if row.null_threshold]
    if given:
        tuned = dict.fromkeys(row.settings["tune_data"] for row in report.rows if row.settings.get("tune_data"))
        lines.insert(0, f"null threshold{''.join(f', tuned on {data}' for data in tuned)}: {', '.join(given)}")
    lines += _unlike_settings(report.rows)
    if report.baseline is None:
        return lines
    return lines + [line for row in report.rows if (line := _difference(row)) is not None]


def _unlike_settings(rows: Sequence[Row]) -> list[str]:
    """Return a line for each setting in which rows differ: they do not compare in all they tell."""
    asked = [row for row in rows if row.settings]
    lines = []
    for key in dict.fromkeys(key for row in asked for key in row.settings):
        values = [row.settings.get(key) for row in asked]
        if any(value != values[0] for value in values):
            shown = ", ".join(f"{row.name} {value}" for row, value in zip(asked, values, strict=True))
            lines.append(f"measured with another {key.replace('_', ' ')}: {shown}")
    return lines


def _difference(row: Row) -> str | None:
    """Return what the pairing with the baseline tells about a row, in one line; None where it was not paired."""
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
    """Return a question that flipped in one line: whose it is, what was asked, and the answers."""

    def shown(text: str) -> str:
        return f"“{text}”" if text else "no answer"

    gold = " or ".join(map(shown, flip.gold)) or "no answer"
    verb = "won" if flip.won else "lost"
    answers = f"right: {gold}; baseline: {shown(flip.baseline)}; now: {shown(flip.answer)}"
    return f"{row.name} {verb}: {flip.question} – {answers}"
