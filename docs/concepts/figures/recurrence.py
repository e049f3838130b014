"""Figure 1: one state of one channel, with a step that is small, large, or chosen for each token."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compresskit.models.mamba.scan import selective_scan
from docs.concepts.figures.svg import Sheet

LENGTH = 48
# The two tokens that matter, and their inputs; what the others bring is noise.
MARKED = {8: 1.0, 30: -0.8}
SMALL, LARGE, TINY = 0.05, 1.0, 0.005
ROWS = ("small step: a slow mean of everything", "large step: the last few tokens", "selected step: what mattered")

_LEFT, _RIGHT, _TOP, _ROW, _HALF = 60.0, 590.0, 84.0, 92.0, 34.0


def inputs() -> Tensor:
    """What the channel reads, (LENGTH,), in float64."""
    others = [0.3 * math.sin(2.3 * t) + 0.2 * math.cos(5.1 * t) for t in range(LENGTH)]
    return torch.tensor([MARKED.get(t, others[t]) for t in range(LENGTH)], dtype=torch.float64)


def steps() -> Tensor:
    """The step sizes of the three rows, (3, LENGTH)."""
    selected = [LARGE if t in MARKED else TINY for t in range(LENGTH)]
    return torch.tensor([[SMALL] * LENGTH, [LARGE] * LENGTH, selected], dtype=torch.float64)


def states(x: Tensor, dt: Tensor) -> Tensor:
    """The state after each token, (3, LENGTH), by the package's scan: A = -1, and B = C = 1, so that y is h."""
    one = torch.ones(1, LENGTH, 1, dtype=torch.float64)
    A, D = -torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    y, _ = selective_scan(x.expand(1, 3, -1), dt.unsqueeze(0), A, one, one, D)
    return y[0]


def left_at_the_end(first: int) -> list[float]:
    """Which part of the state that one token makes is there after the last token, for each row."""
    alone = torch.zeros(LENGTH, dtype=torch.float64)
    alone[first] = 1.0
    made = states(alone, steps())
    return [float(row[-1] / row[first]) for row in made]


def figure() -> Sheet:
    """The inputs, and below them the three rows."""
    sheet = Sheet(
        760,
        500,
        "A state of one channel over 48 tokens. With a small step it is a slow mean, with a large one it follows the "
        "last tokens, and with a step that is large at two tokens only it holds what these brought.",
    )
    x, dt = inputs(), steps()
    sheet.text(20, 30, "One state h of one channel: h = exp(-dt) · h + dt · x", "head")
    sheet.text(20, 50, "computed by the package's scan with A = -1, B = C = 1; every row has its own scale", "note")
    kept = [left_at_the_end(token) for token in MARKED]
    rows = [("input x", x, None), *((name, states(x, dt)[row], row) for row, name in enumerate(ROWS))]
    for number, (name, values, row) in enumerate(rows):
        middle = _TOP + number * (_ROW + 10) + 16 + _HALF
        sheet.text(_LEFT, middle - _HALF - 6, name if row is None else f"{name}, {_told(row)}", "text")
        _draw_row(sheet, middle, values, bars=row is None)
        if row is None:
            sheet.text(_RIGHT + 16, middle - 4, "two tokens matter,", "note accent")
            sheet.text(_RIGHT + 16, middle + 12, "the others are noise", "note")
        else:
            for line, (token, parts) in enumerate(zip(MARKED, kept, strict=True)):
                told = f"{100 * parts[row]:.0f} % of token {token}"
                sheet.text(_RIGHT + 16, middle - 10 + 16 * line, told, "note accent")
            sheet.text(_RIGHT + 16, middle + 24, "is left at the end", "note")
    return sheet


def _told(row: int) -> str:
    return (f"dt = {SMALL:g}", f"dt = {LARGE:g}", f"dt = {LARGE:g} at the two tokens, {TINY:g} elsewhere")[row]


def _draw_row(sheet: Sheet, middle: float, values: Tensor, *, bars: bool) -> None:
    """One row of values around a line for zero, scaled to the room it has."""
    scale = _HALF / float(values.abs().max())
    places = [_LEFT + (_RIGHT - _LEFT) * t / (LENGTH - 1) for t in range(LENGTH)]
    for token in MARKED:
        sheet.line(((places[token], middle - _HALF), (places[token], middle + _HALF)), "grid")
    sheet.line(((_LEFT, middle), (_RIGHT, middle)), "axis")
    sheet.text(_LEFT - 8, middle + 4, "0", "note", "end")
    heights = [middle - scale * value for value in values.tolist()]
    if bars:
        for t, (place, height) in enumerate(zip(places, heights, strict=True)):
            sheet.line(((place, middle), (place, height)), "bar accent" if t in MARKED else "bar")
        for token in MARKED:
            sheet.text(places[token] + 6, middle + _HALF, f"token {token}", "note")
    else:
        sheet.line(list(zip(places, heights, strict=True)), "curve")
