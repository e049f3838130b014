"""Which columns of the page's table fit a screen of 1,280 px: by an estimate of how wide their texts are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SCREEN = 1280.0
"""Pixels of the screen whose width the table has to fit without scrolling sideways."""

# What the style sheet has: the margins of the page, a scroll bar, the frame; the size of letters in a table and of the
# notes in it; what a cell has at its sides, with a border; how wide names become.
_AROUND = 2 * 24.0 + 15.0 + 2.0
_LETTERS = 0.87 * 16
_NOTE = 0.82
_PADDING = 2 * 11.2 + 1.0
_NAMES = 15 * 16 + _PADDING
_BOLD = 1.12
# The arrow of the one column that the table is sorted by.
_ARROW = 1.2 * _LETTERS


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a column, and how soon it is folded: the highest rank goes first, 0 stays, None goes before all."""

    heading: str
    cells: Sequence[str]
    notes: Sequence[str]
    rank: int | None


def width_of(text: str) -> float:
    """How wide a text is, in parts of its size, in the widest of the usual system fonts."""
    return sum(0.64 if letter.isdigit() else 0.36 if letter in " .,-/:|" else 0.64 for letter in text)


def column_width(column: Texts) -> float:
    """How wide a column is in pixels at most. Its widest text counts, for none is broken but at a line feed."""
    heading = max((width_of(line) * _BOLD for line in column.heading.split("\n")), default=0.0) * _LETTERS
    cells = max(map(width_of, column.cells), default=0.0) * _LETTERS * _BOLD
    notes = max(map(width_of, column.notes), default=0.0) * _LETTERS * _NOTE
    return max(heading, cells, notes) + _PADDING


def lesser(columns: Sequence[Texts]) -> frozenset[int]:
    """The numbers of the columns that are folded, so that the names and all others fit."""
    shown = set(range(len(columns)))
    widths = [column_width(column) for column in columns]

    def rank(number: int) -> tuple[bool, int, int]:
        known = columns[number].rank
        return known is None, known or 0, number

    while shown and _NAMES + _ARROW + sum(widths[number] for number in shown) > SCREEN - _AROUND:
        last = max(shown, key=rank)
        if columns[last].rank == 0:
            break
        shown.remove(last)
    return frozenset(range(len(columns))) - shown
