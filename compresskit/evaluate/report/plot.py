"""The two scatter plots of a report as an image: their drawings written out by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.errors import InputError
from compresskit.evaluate.image import check_suffix, new_figure, save_figure
from compresskit.evaluate.report.drawing import HEIGHT, LETTERS, PLANE, WIDTH, Drawing, Key, Mark, draw
from compresskit.evaluate.report.labels import shortened
from compresskit.evaluate.report.scatter import scatters
from compresskit.evaluate.row import Report
from compresskit.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points (1/72 inch) for one unit of a drawing.
_SCALE = 0.92
_POINTS_PER_INCH = 72
# In units of a drawing: between the panels and around them, above a drawing for its heading, a line below it for each
# key of the legend (six at most), and below all a line on the data.
_GAP = 20.0
_ABOVE, _LINE, _BELOW = 26.0, 17.0, 108.0
_FOOT = 26.0
_FIGURE = (2 * WIDTH + 3 * _GAP, _GAP + _ABOVE + HEIGHT + _BELOW + _FOOT)
_INCHES = (_FIGURE[0] * _SCALE / _POINTS_PER_INCH, _FIGURE[1] * _SCALE / _POINTS_PER_INCH)
# Of matplotlib's own font, in parts of its size.
_LETTER_WIDTH = 0.6
# As many letters as a line of the legend has room for.
_LEGEND_LETTERS = 68
_ACCENT, _MUTED, _GRID = "#0a5cb8", "#5a636d", "#dde1e5"

_LINES: Mapping[str, Mapping[str, Any]] = {
    "grid": {"color": _GRID, "linewidth": 0.75},
    "axis": {"color": _MUTED, "linewidth": 0.9},
    "front": {"color": _ACCENT, "linewidth": 1.25, "alpha": 0.55},
    "leader": {"color": _MUTED, "linewidth": 0.6},
    "spread": {"color": _MUTED, "linewidth": 1.0},
}
# A label has a ground of its own, so that no line goes through its letters.
_GROUND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
_TEXTS: Mapping[str, Mapping[str, Any]] = {
    "heading": {"fontsize": 13 * _SCALE, "fontweight": "bold"},
    "tick": {"fontsize": 11 * _SCALE, "color": _MUTED},
    "quantity": {"fontsize": 11 * _SCALE, "color": _MUTED},
    "label": {"fontsize": LETTERS * _SCALE, "bbox": _GROUND},
    "label beaten": {"fontsize": LETTERS * _SCALE, "color": _MUTED, "bbox": _GROUND},
    "legend": {"fontsize": 11 * _SCALE, "color": _MUTED},
}
_MARKS: Mapping[str, Mapping[str, Any]] = {
    "mark": {"facecolor": _ACCENT, "edgecolor": "white", "linewidth": 1.0},
    "mark beaten": {"facecolor": "white", "edgecolor": _MUTED, "linewidth": 1.25},
}
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def check(path: Path) -> None:
    """Raise what `save_plot` would of any report: UsageError for the suffix, MissingError without matplotlib."""
    check_suffix(path)
    new_figure(*_INCHES)


def save_plot(report: Report, path: Path) -> None:
    """Draw EM against deploy size and against latency, side by side, to `path` (PNG or SVG by its suffix).

    Points that no other beats in both are filled, and joined by the staircase of the Pareto front. The same report
    gives the same bytes; the file appears whole or not at all.

    Raises UsageError for another suffix, MissingError without matplotlib, InputError where no row has a point in
    either plot.
    """
    check_suffix(path)
    panels = scatters(report)
    if not any(panel.points for panel in panels):
        raise InputError(
            f"--plot {path}: no checkpoint has both EM and deploy size or latency, so there is nothing to draw; "
            "leave --plot out, or evaluate a checkpoint with its model"
        )
    figure = new_figure(*_INCHES)
    width, height = _FIGURE
    for index, panel in enumerate(panels):
        left = _GAP + index * (WIDTH + _GAP)
        place = (left / width, _FOOT / height, WIDTH / width, (_ABOVE + HEIGHT + _BELOW) / height)
        _write(figure.add_axes(place), draw(panel, _LETTER_WIDTH))
    foot = f"{report.dataset.path}: {report.dataset.questions:,} questions"
    figure.text((_GAP + PLANE.left) / width, 0.4 * _FOOT / height, foot, parse_math=False, **_TEXTS["legend"])
    save_figure(figure, path)


def _write(axes: Axes, drawing: Drawing) -> None:
    """Write a drawing, with its heading above it and its legend below, into axes that have its own unit."""
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT + _BELOW, -_ABOVE))
    axes.set_axis_off()
    _text(axes, drawing.heading, 8, -10, "start", "heading")
    if not drawing.marks:
        _text(axes, drawing.summary, WIDTH / 2, HEIGHT / 2, "middle", "legend")
    for line in drawing.lines:
        axes.plot(*zip(*line.points, strict=True), zorder=1, **_LINES[line.role])
    for text in drawing.texts:
        _text(axes, text.text, text.x, text.y, text.anchor, text.role)
    for mark in drawing.marks:
        _mark(axes, mark, mark.x, mark.y)
    for number, key in enumerate(drawing.keys):
        _key(axes, key, HEIGHT + (number + 0.9) * _LINE)


def _text(axes: Axes, text: str, x: float, y: float, anchor: str, role: str) -> None:
    # A name may hold a $, which is not the start of a formula.
    axes.text(x, y, text, ha=_ANCHORS[anchor], va="baseline", zorder=2, parse_math=False, **_TEXTS[role])


def _mark(axes: Axes, mark: Mark, x: float, y: float) -> None:
    from matplotlib.patches import Circle, Patch, Polygon

    shape: Patch = Circle((x, y), mark.radius, **_MARKS[mark.role])
    if mark.corners:
        shape = Polygon([(x + right, y + down) for right, down in mark.corners], **_MARKS[mark.role])
    shape.set(zorder=3, clip_on=False)
    axes.add_patch(shape)


def _key(axes: Axes, key: Key, y: float) -> None:
    """Write a line of the legend, with as many names as it has room for."""
    indent = 0.0
    if key.mark is not None:
        _mark(axes, key.mark, PLANE.left + key.mark.radius, y - 4)
        indent = 16.0
    _text(axes, f"{key.text} {_listed(key)}".strip(), PLANE.left + indent, y, "start", "legend")


def _listed(key: Key) -> str:
    """The names that a line of the legend goes on with, and how many have no room."""
    names = [shortened(printable(name)) for name in key.names]
    for shown in range(len(names), 0, -1):
        rest = f" and {len(names) - shown} more" if shown < len(names) else ""
        text = ", ".join(names[:shown]) + rest
        if shown == 1 or len(key.text) + 1 + len(text) <= _LEGEND_LETTERS:
            return text
    return ""
