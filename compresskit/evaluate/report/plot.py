"""The two scatter plots of a report as an image, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.errors import InputError
from compresskit.evaluate.image import check_suffix, new_figure, save_figure
from compresskit.evaluate.report.drawing import Mark, draw
from compresskit.evaluate.report.scatter import Scatter, scatters
from compresskit.evaluate.row import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches; a panel's plane, and where it stands in the figure.
_FIGURE = (12.0, 5.2)
_PLANE = (4.9, 3.75)
_LEFT, _BOTTOM = (0.75, 6.85), 0.95
_POINTS_PER_INCH = 72
_LETTERS = 9.0
_ACCENT, _MUTED, _LINE = "#0a5cb8", "#5a636d", "#dde1e5"


def check(path: Path) -> None:
    """Raise what `save_plot` would of any report: UsageError for the suffix, MissingError without matplotlib."""
    check_suffix(path)
    new_figure(*_FIGURE)


def save_plot(report: Report, path: Path) -> None:
    """Draw EM against deploy size and against latency, side by side, to ``path`` (PNG or SVG by its suffix).

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
    figure = new_figure(*_FIGURE)
    data = report.dataset
    figure.text(
        _LEFT[0] / _FIGURE[0],
        0.02,
        "● on the Pareto front: no other is better at no more cost    ○ beaten    ◇ baseline    "
        f"{data.path}: {data.questions:,} questions",
        color=_MUTED,
        fontsize=_LETTERS,
        parse_math=False,
    )
    for panel, left in zip(panels, _LEFT, strict=True):
        place = (left / _FIGURE[0], _BOTTOM / _FIGURE[1], _PLANE[0] / _FIGURE[0], _PLANE[1] / _FIGURE[1])
        _panel(figure.add_axes(place), panel)
    save_figure(figure, path)


def _panel(axes: Axes, scatter: Scatter) -> None:
    axes.set_title(scatter.heading, loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    if not scatter.points:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        text = f"No checkpoint has both EM and {scatter.cost}."
        axes.text(0.5, 0.5, text, ha="center", va="center", color=_MUTED, transform=axes.transAxes)
        return
    # Everything is laid out in points (1/72 inch) from the upper left corner, as on the HTML page.
    width, height = (length * _POINTS_PER_INCH for length in _PLANE)
    drawing = draw(scatter, width, height, 0.6 * _LETTERS, 1.25 * _LETTERS)
    axes.set(xlim=(0, width), ylim=(height, 0), xlabel=scatter.x_label, ylabel="EM, %")
    axes.set_xticks([x for x, _ in drawing.x_ticks], [label for _, label in drawing.x_ticks])
    axes.set_yticks([y for y, _ in drawing.y_ticks], [label for _, label in drawing.y_ticks])
    axes.tick_params(colors=_MUTED, labelsize=9)
    axes.grid(color=_LINE, linewidth=0.75)
    axes.set_axisbelow(True)
    axes.plot(*zip(*drawing.front, strict=True), color=_ACCENT, linewidth=1.25, alpha=0.55, zorder=1.5)
    for mark in drawing.marks:
        _mark(axes, mark)


def _mark(axes: Axes, mark: Mark) -> None:
    face, edge = (_ACCENT, "white") if mark.on_front else ("white", _MUTED)
    shape = "D" if mark.point.is_baseline else "o"
    axes.plot(mark.x, mark.y, shape, markersize=7, color=face, markeredgecolor=edge, zorder=3, clip_on=False)
    if mark.label is None:
        return
    if mark.label.leader is not None:
        axes.plot(*zip(*mark.label.leader, strict=True), color=_MUTED, linewidth=0.6, zorder=2)
    axes.text(
        mark.label.x,
        mark.label.box.middle,
        mark.label.text,
        ha={"start": "left", "middle": "center", "end": "right"}[mark.label.anchor],
        va="center_baseline",
        fontsize=_LETTERS,
        color="black" if mark.on_front or mark.point.is_baseline else _MUTED,
        zorder=1,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        parse_math=False,  # a name may hold a $
    )
