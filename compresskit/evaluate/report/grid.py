"""A table of texts for the terminal: as many columns as fit, no figure cut, names folded between their words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compresskit.text import printable

if TYPE_CHECKING:
    from rich.table import Table

_NAME_WIDTH = 16
"""Columns are left out before long names are folded to less than this many characters."""
_GAP = 2
_WORD = re.compile(r"[^-_./ ]*[-_./ ]|[^-_./ ]+")


@dataclass(frozen=True, slots=True)
class Grid:
    """Headings over lines of cells.

    `ranks`, one for each column, tell which is left out first where the terminal is narrow: the highest; 0 stays.
    `name` is the column that is folded, `texts` are those that stand to the left. `styles` has how single cells (line,
    column) are written.
    """

    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    ranks: Sequence[int]
    name: int = 0
    texts: frozenset[int] = frozenset({0})
    styles: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def fitted(self, width: int) -> tuple[Table, list[str]]:
        """The table for a terminal of `width`, and the headings of what was left out, in one line each."""
        widths = self._widths()
        shown = list(range(len(self.headings)))
        while len(shown) > 1 and self._least(shown, widths) > width:
            last = max(shown, key=lambda column: self.ranks[column])
            if not self.ranks[last]:
                break
            shown.remove(last)
        left_out = [heading.replace("\n", " ") for at, heading in enumerate(self.headings) if at not in shown]
        others = sum(widths[column] + _GAP for column in shown if column != self.name)
        return self._table(shown, max(min(widths[self.name], width - others), 1)), left_out

    def _widths(self) -> list[int]:
        """How wide each column is where nothing is folded."""
        from rich.cells import cell_len

        cells = zip(self.headings, *self.lines, strict=True)
        return [max(cell_len(line) for cell in column for line in (cell.split("\n") or [""])) for column in cells]

    def _least(self, shown: Sequence[int], widths: Sequence[int]) -> int:
        least = sum(min(widths[at], _NAME_WIDTH) if at == self.name else widths[at] for at in shown)
        return least + _GAP * (len(shown) - 1)

    def _table(self, shown: Sequence[int], name_width: int) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP - 1, 0, 0))
        for at in shown:
            is_name = at == self.name
            table.add_column(
                Text(self.headings[at]),
                justify="left" if at in self.texts else "right",
                no_wrap=not is_name,
                overflow="fold",
                width=name_width if is_name else None,
            )
        for number, line in enumerate(self.lines):
            cells = [folded(line[at], name_width) if at == self.name else line[at] for at in shown]
            styles = [self.styles.get((number, at), "") for at in shown]
            table.add_row(*(Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)))
        return table


def folded(text: str, width: int) -> str:
    """A name in lines of at most `width`, broken behind - _ . / and blanks; a word that is too long is cut."""
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for word in _WORD.findall(printable(text)):
        if lines[-1] and cell_len(lines[-1] + word.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        pieces = chop_cells(lines[-1] + word, width) if cell_len((lines[-1] + word).rstrip()) > width else None
        lines[-1:] = pieces or [lines[-1] + word]
    return "\n".join(line.rstrip() for line in lines)
