"""One drawing of a scatter plot, as lines, texts and marks: the HTML page and the image both write it out as it stands.

Everything is placed in one unit, from the upper left corner on; y grows downwards. A role says what a thing is, and
whoever writes it out gives each role its colour: the style sheet of the page, `compresskit.evaluate.report.plot`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compresskit.evaluate.report.labels import MARK_RADIUS, Anchor, Box, Label, Position, place_labels
from compresskit.evaluate.report.scatter import Point, Scatter
from compresskit.text import counted

WIDTH, HEIGHT = 440.0, 334.0
PLANE = Box(44.0, 26.0, 384.0, 262.0)
"""Where the points are; around it is room for ticks and for what the axes are called."""
LABELLED = Box(PLANE.left + 2.0, 4.0, WIDTH - PLANE.left - 4.0, PLANE.bottom - 6.0)
"""Where labels may be: a point at the edge of the plane has its label above it."""
LETTERS = 12.0
"""Size of the letters of a label."""

_LINE_HEIGHT = 1.25 * LETTERS
# From the middle of a line of letters down to the line that they stand on.
_BASELINE = 4.0
# A diamond of the same half diagonal looks smaller than a circle of that radius.
_DIAMOND = 1.35 * MARK_RADIUS
# Half the bar at the end of an error bar.
_BAR = 0.8 * MARK_RADIUS


@dataclass(frozen=True, slots=True)
class Line:
    """Straight from point to point; `role` is grid, axis, front, leader or spread."""

    points: tuple[Position, ...]
    role: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text that stands on the height `y`; `role` is tick, quantity, label, or "label beaten"."""

    text: str
    x: float
    y: float
    anchor: Anchor
    role: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point: a circle of `radius`, or where there are `corners` what they bound, seen from the middle.

    `role` is mark or "mark beaten"; `title` tells all about the point.
    """

    x: float
    y: float
    radius: float
    corners: tuple[Position, ...]
    role: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A line of the legend: a mark, or none, what it says, and the names of rows that it goes on with."""

    mark: Mark | None
    text: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawing:
    """A scatter plot, its lines below its texts and those below its marks.

    `summary` says in words what is to be seen. Where there is no point, nothing is drawn and `summary` says why.
    """

    heading: str
    summary: str
    lines: tuple[Line, ...] = ()
    texts: tuple[Text, ...] = ()
    marks: tuple[Mark, ...] = ()
    keys: tuple[Key, ...] = ()


def draw(scatter: Scatter, letter_width: float) -> Drawing:
    """The drawing of `scatter`; `letter_width` is the mean width of a letter, in parts of its size."""
    if not scatter.points:
        return Drawing(scatter.heading, f"No checkpoint has both EM and {scatter.cost}.")
    front = scatter.front
    corners = _staircase([_place(scatter, point) for point in front])
    labels = place_labels(
        [point.name for point in scatter.points],
        [_place(scatter, point) for point in scatter.points],
        [point.is_baseline or point in front for point in scatter.points],
        list(itertools.pairwise(corners)),
        LABELLED,
        (letter_width * LETTERS, _LINE_HEIGHT),
    )
    leaders = [Line(label.leader, "leader") for label in labels if label is not None and label.leader is not None]
    unnamed = tuple(point.name for label, point in zip(labels, scatter.points, strict=True) if label is None)
    names = [_name(label, point, front) for label, point in zip(labels, scatter.points, strict=True) if label]
    return Drawing(
        scatter.heading,
        f"{scatter.heading}: a scatter plot of {counted(len(scatter.points), 'checkpoint')}. "
        f"On the Pareto front, from the smallest {scatter.cost}: {', '.join(point.name for point in front)}.",
        (*_grid(scatter), _AXIS, Line(tuple(corners), "front"), *leaders, *_spreads(scatter)),
        (*_ticks(scatter), *_quantities(scatter), *names),
        tuple(_mark(scatter, point, front) for point in scatter.points),
        tuple(_keys(scatter, unnamed)),
    )


def _place(scatter: Scatter, point: Point) -> Position:
    return _across(scatter, point.x), _down(scatter, point.y)


def _across(scatter: Scatter, value: float) -> float:
    return PLANE.left + scatter.x.place(value) * PLANE.width


def _down(scatter: Scatter, value: float) -> float:
    return PLANE.top + (1 - scatter.y.place(value)) * PLANE.height


def _staircase(front: Sequence[Position]) -> list[Position]:
    """Up from the lower edge to the first point, from step to step, and on to the right edge.

    It bounds what is worse than the Pareto front.
    """
    corners = [(front[0][0], PLANE.bottom), front[0]]
    for (_, before), (x, y) in itertools.pairwise(front):
        corners += [(x, before), (x, y)]
    return [*corners, (PLANE.right, front[-1][1])]


_AXIS = Line(((PLANE.left, PLANE.top), (PLANE.left, PLANE.bottom), (PLANE.right, PLANE.bottom)), "axis")


def _grid(scatter: Scatter) -> Iterator[Line]:
    for value, _ in scatter.x.ticks:
        x = _across(scatter, value)
        yield Line(((x, PLANE.top), (x, PLANE.bottom)), "grid")
    for value, _ in scatter.y.ticks:
        y = _down(scatter, value)
        yield Line(((PLANE.left, y), (PLANE.right, y)), "grid")


def _spreads(scatter: Scatter) -> Iterator[Line]:
    """Yield an error bar for each mean of several runs: one standard deviation up and down, with a bar at each end."""
    for point in scatter.points:
        if point.spread is None:
            continue
        x, (low, high) = _across(scatter, point.x), (_down(scatter, end) for end in point.ends)
        yield Line(((x, low), (x, high)), "spread")
        for end in (low, high):
            yield Line(((x - _BAR, end), (x + _BAR, end)), "spread")


def _ticks(scatter: Scatter) -> Iterator[Text]:
    for value, text in scatter.x.ticks:
        yield Text(text, _across(scatter, value), PLANE.bottom + 17, "middle", "tick")
    for value, text in scatter.y.ticks:
        yield Text(text, PLANE.left - 8, _down(scatter, value) + _BASELINE, "end", "tick")


def _quantities(scatter: Scatter) -> Iterator[Text]:
    yield Text("EM, %", 8, PLANE.top - 12, "start", "quantity")
    yield Text(scatter.x_label, PLANE.right, PLANE.bottom + 38, "end", "quantity")


def _name(label: Label, point: Point, front: Sequence[Point]) -> Text:
    role = "label" if point.is_baseline or point in front else "label beaten"
    return Text(label.text, label.x, label.box.middle + _BASELINE, label.anchor, role)


def _mark(scatter: Scatter, point: Point, front: Sequence[Point]) -> Mark:
    name = f"{point.name} (baseline)" if point.is_baseline else point.name
    spread = "" if point.spread is None else f" ± {point.spread:.2f}"
    title = f"{name}: EM {point.y:.2f}{spread}, {scatter.text(point.x)}"
    if point in front:
        title += ", on the Pareto front"
    return _symbol(*_place(scatter, point), point.is_baseline, point in front, title)


def _symbol(x: float, y: float, is_baseline: bool, is_on_front: bool, title: str = "") -> Mark:
    corners = ((0.0, -_DIAMOND), (_DIAMOND, 0.0), (0.0, _DIAMOND), (-_DIAMOND, 0.0)) if is_baseline else ()
    return Mark(x, y, MARK_RADIUS, corners, "mark" if is_on_front else "mark beaten", title)


def _keys(scatter: Scatter, unnamed: tuple[str, ...]) -> Iterator[Key]:
    yield Key(_symbol(0, 0, False, True), f"on the Pareto front: none is both better and {scatter.advantage}")
    yield Key(_symbol(0, 0, False, False), "beaten")
    if any(point.is_baseline for point in scatter.points):
        yield Key(_symbol(0, 0, True, True), "baseline")
    if any(point.spread is not None for point in scatter.points):
        yield Key(None, "bars: one standard deviation over runs")
    if unnamed:
        yield Key(None, "Not named, for want of room:", unnamed)
    if scatter.missing:
        yield Key(None, "Not shown, for want of a figure:", scatter.missing)
