"""Where the names of points go on a plane: beside them, and over no other name, point or line."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from compresskit.text import printable

MARK_RADIUS = 4.5
_LONGEST = 24
_GAP = 3.0
# How far from its point a label may go, nearest first; beyond the first a line leads to it.
_DISTANCES = (0.0, 5.0, 10.0, 15.0, 20.0, 27.0, 34.0, 44.0, 56.0, 70.0)
# Orders in which the points choose are tried until all find room, at most so many.
_TRIES = 4
# A label goes this much farther away before it covers a part of the front.
_COVERED = 24.0
# And takes any other place before it covers the line to another label.
_LAST = 1000.0
# Right and left read best, then above and below; y grows downwards.
_DIRECTIONS = (
    *((1, 0), (-1, 0), (0, -1), (0, 1)),
    *((1, -1), (1, 1), (-1, -1), (-1, 1)),
    *((1, -0.5), (1, 0.5), (-1, -0.5), (-1, 0.5)),
    *((0.5, -1), (0.5, 1), (-0.5, -1), (-0.5, 1)),
)

Position = tuple[float, float]
Segment = tuple[Position, Position]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.top + self.height

    @property
    def middle(self) -> float:
        """Height of the middle."""
        return self.top + self.height / 2

    def overlaps(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, position: Position) -> bool:
        """Whether a position lies within."""
        return self.left < position[0] < self.right and self.top < position[1] < self.bottom

    def nearest(self, position: Position) -> Position:
        """The position within that is nearest to another."""
        return min(max(position[0], self.left), self.right), min(max(position[1], self.top), self.bottom)


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a point, written in its box from `x` on, up to it or around it, as `anchor` says.

    `leader` is the line from the point, where the box is not right beside it.
    """

    text: str
    box: Box
    x: float
    anchor: Anchor
    leader: Segment | None


def place_labels(
    names: Sequence[str],
    points: Sequence[Position],
    important: Sequence[bool],
    lines: Sequence[Segment],
    bounds: Box,
    letter: tuple[float, float],
) -> list[Label | None]:
    """The label of each point, with its name shortened; None where there is no room for one.

    `letter` is the mean width of a letter and the height of a line; see `place_boxes` for the rest.
    """
    texts = [shortened(printable(name)) for name in names]
    sizes = [(_columns(text) * letter[0], letter[1]) for text in texts]
    boxes = place_boxes(points, sizes, important, lines, bounds)
    return [
        None if box is None else _label(text, point, box) for text, point, box in zip(texts, points, boxes, strict=True)
    ]


def place_boxes(
    points: Sequence[Position],
    sizes: Sequence[tuple[float, float]],
    important: Sequence[bool],
    lines: Sequence[Segment],
    bounds: Box,
) -> list[Box | None]:
    """A box of each point's label that covers no other label and no point, within `bounds`; None if none does.

    Important ones choose first, then those that would find no room, each the nearest free place. One that covers a part
    of `lines` counts as farther away, and one that covers the line to another label comes last.
    """
    order = sorted(range(len(points)), key=lambda index: not important[index])
    found: list[list[Box | None]] = []
    for _ in range(_TRIES):
        found.append(_placed(order, points, sizes, lines, bounds))
        left = [index for index in order if found[-1][index] is None]
        if not left:
            break
        order = left + [index for index in order if index not in left]  # who found no room chooses first
    return min(found, key=lambda boxes: boxes.count(None))


def _placed(
    order: Sequence[int],
    points: Sequence[Position],
    sizes: Sequence[tuple[float, float]],
    lines: Sequence[Segment],
    bounds: Box,
) -> list[Box | None]:
    """The boxes, chosen by one point after the other in `order`."""
    boxes: list[Box | None] = [None] * len(points)
    leaders: list[Segment] = []
    marks = [Box(x - MARK_RADIUS, y - MARK_RADIUS, 2 * MARK_RADIUS, 2 * MARK_RADIUS) for x, y in points]
    for index in order:
        taken = [*filter(None, boxes), *(mark for mark in marks if not mark.holds(points[index]))]
        box = _nearest(points[index], sizes[index], taken, lines, leaders, bounds)
        if box is not None:
            boxes[index] = box
            leaders.append((points[index], box.nearest(points[index])))
    return boxes


def _nearest(
    point: Position,
    size: tuple[float, float],
    taken: Sequence[Box],
    lines: Sequence[Segment],
    leaders: Sequence[Segment],
    bounds: Box,
) -> Box | None:
    """The free place that is nearest, with what it costs to cover lines; None if there is none."""
    best, least = None, math.inf
    for distance in _DISTANCES:
        if distance >= least:
            break
        for box in _around(point, size, distance):
            if not _within(box, bounds) or not _is_free(point, box, taken):
                continue
            away = math.dist(point, box.nearest(point))
            away += _COVERED if any(_crosses(line, box) for line in lines) else 0.0
            away += _LAST if any(_crosses(line, box) for line in leaders) else 0.0
            if away < least:
                best, least = box, away
    return best


def _around(point: Position, size: tuple[float, float], distance: float) -> Iterator[Box]:
    """Boxes at a distance from a point's mark."""
    width, height = size
    for right, down in _DIRECTIONS:
        away = (MARK_RADIUS + _GAP + distance) / math.hypot(right, down)
        x, y = point[0] + right * away, point[1] + down * away
        yield Box(x - width * (1 - right) / 2, y - height * (1 - down) / 2, width, height)


def _within(box: Box, bounds: Box) -> bool:
    return (
        box.left >= bounds.left and box.right <= bounds.right and box.top >= bounds.top and box.bottom <= bounds.bottom
    )


def _is_free(point: Position, box: Box, taken: Sequence[Box]) -> bool:
    """Whether neither the box nor the line that leads to it touches what is there already."""
    line = (point, box.nearest(point))
    return not any(box.overlaps(other) or _crosses(line, other) for other in taken)


def _crosses(line: Segment, box: Box) -> bool:
    """Whether a line passes through a box: whether the parts of it between the box's edges, per axis, share some."""
    enter, leave = 0.0, 1.0
    for start, end, low, high in zip(*line, (box.left, box.top), (box.right, box.bottom), strict=True):
        if start == end:
            if not low < start < high:
                return False
        else:
            first, last = sorted(((low - start) / (end - start), (high - start) / (end - start)))
            enter, leave = max(enter, first), min(leave, last)
    return enter < leave


def _label(text: str, point: Position, box: Box) -> Label:
    """Write a name towards its point, so that an estimate of its width that is too great leaves no gap."""
    anchor: Anchor = "start" if box.left >= point[0] else "end" if box.right <= point[0] else "middle"
    x = {"start": box.left, "middle": box.left + box.width / 2, "end": box.right}[anchor]
    return Label(text, box, x, anchor, _leader(point, box))


def _leader(point: Position, box: Box) -> Segment | None:
    """The line from the rim of a point's mark to its label; None where they are side by side."""
    to = box.nearest(point)
    distance = math.dist(point, to)
    if distance < MARK_RADIUS + _GAP + 4.0:
        return None
    part = MARK_RADIUS / distance
    return (point[0] + (to[0] - point[0]) * part, point[1] + (to[1] - point[1]) * part), to


def shortened(name: str, longest: int = _LONGEST) -> str:
    """A name of at most `longest` letters; a longer one loses its middle, for names of a family differ at the end."""
    kept = longest - 1
    return name if len(name) <= longest else f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


def _columns(text: str) -> int:
    """Width in characters; those of East Asia take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
