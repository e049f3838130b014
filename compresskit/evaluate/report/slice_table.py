"""Tables of slices, for the terminal, Markdown and the page: what each row has on each slice of a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compresskit.evaluate.row import Interval, Report
from compresskit.evaluate.slice import Slice
from compresskit.evaluate.slices import lines_of, stands_out
from compresskit.evaluate.units import PROBABILITY, UNMEASURED, per_cent, signed

TEXTS = 2
"""Cells of a line that are texts; the others are figures."""
MEANING = "differs from the baseline beyond chance: p below 0.05 after Holm's correction for all slices of the row"
NO_SLICES = "no row has slices of it"
PLAIN = ("Questions", "EM", "F1")
PAIRED = ("Δ EM", "95 % interval", "p", "p corrected")


@dataclass(frozen=True, slots=True)
class SliceTable:
    """The slices of one key: `headings` stand over the cells of each of `lines`.

    The first two cells are texts (the value, the name of the row), the rest are figures. `marked` are the numbers of
    the lines that differ from the baseline beyond chance.
    """

    key: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    marked: frozenset[int]


def slice_table(report: Report, key: str) -> SliceTable:
    """The table of one key; differences only where there is a baseline."""
    has_pairs = report.baseline is not None
    lines = lines_of(report, key)
    cells = tuple(
        (line.value, line.row.name, *_plain(line.figures), *(_paired(line.figures) if has_pairs else ()))
        for line in lines
    )
    marked = frozenset(number for number, line in enumerate(lines) if stands_out(line.figures))
    return SliceTable(key, (key, "Name", *PLAIN, *(PAIRED if has_pairs else ())), cells, marked)


def _plain(found: Slice) -> Iterator[str]:
    yield f"{found.questions:,}"
    yield from (UNMEASURED if value is None else per_cent(value) for value in (found.em, found.f1))


def _paired(found: Slice) -> Iterator[str]:
    yield UNMEASURED if found.delta_em is None else signed(found.delta_em)
    yield span(found.delta_em_ci95)
    for value in (found.p_value, found.p_value_holm):
        yield UNMEASURED if value is None else PROBABILITY.cell(value)


def span(interval: Interval | None) -> str:
    """The ends of an interval of a difference; a dash where there is none."""
    return UNMEASURED if interval is None else f"{signed(interval[0])} to {signed(interval[1])}"
