"""What a scatter plot of a report shows, whatever draws it: points, the Pareto front, axes with their ticks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compresskit.evaluate.report.scale import Axis, cost_axis, quality_axis
from compresskit.evaluate.row import FIGURES, Report, Row
from compresskit.evaluate.units import size


@dataclass(frozen=True, slots=True)
class Point:
    """One row: `y` is its EM in per cent, `x` what it costs (bytes or milliseconds).

    `spread` is the standard deviation of the EM over the runs of a mean, None for any other.
    """

    name: str
    x: float
    y: float
    is_baseline: bool = False
    spread: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """One standard deviation below and above; no EM is below 0 or above 100."""
        around = self.spread or 0.0
        return max(self.y - around, 0.0), min(self.y + around, 100.0)


@dataclass(frozen=True, slots=True)
class Scatter:
    """EM against one cost of the rows that have both figures; `missing` names the rows that do not.

    `cost` names what lies along x, `advantage` says what a checkpoint with less of it is (smaller, faster), and
    `quantity` is what the axis is called; `text` writes one of its figures, with its unit.
    """

    cost: str
    advantage: str
    quantity: str
    points: tuple[Point, ...]
    missing: tuple[str, ...]
    x: Axis
    y: Axis
    text: Callable[[float], str]

    @property
    def heading(self) -> str:
        """What is drawn against what."""
        return f"EM against {self.cost}"

    @property
    def x_label(self) -> str:
        """Name of the x axis, with its scale where that is not linear."""
        return f"{self.quantity} (log scale)" if self.x.is_log else self.quantity

    @property
    def front(self) -> tuple[Point, ...]:
        """The Pareto front of the points."""
        return tuple(pareto_front(self.points))


def scatters(report: Report) -> tuple[Scatter, Scatter]:
    """EM against deploy size, and EM against latency (p50, one question at a time); both have the same y axis."""
    costs = ("deploy_bytes", "latency_ms_p50")
    shown = [_point(row, 0.0, row.em) for row in report.rows if row.em is not None and any(map(row.value, costs))]
    y = quality_axis([end for point in shown for end in point.ends])
    return (
        _scatter(report, "deploy size", "smaller", "Deploy size", costs[0], y, _size_tick),
        _scatter(report, "latency", "faster", "Latency p50, ms", costs[1], y, _plain_tick),
    )


def _scatter(
    report: Report, cost: str, advantage: str, quantity: str, key: str, y: Axis, tick: Callable[[float], str]
) -> Scatter:
    points, missing = [], []
    for row in report.rows:
        x = row.value(key)
        if x is None or row.em is None:
            missing.append(row.name)
        else:
            points.append(_point(row, float(x), row.em))
    x_axis = cost_axis([point.x for point in points], tick)
    return Scatter(cost, advantage, quantity, tuple(points), tuple(missing), x_axis, y, FIGURES[key].unit.alone)


def _point(row: Row, x: float, em: float) -> Point:
    return Point(row.name, x, em, row.baseline, (row.sd or {}).get("em"))


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats, by ascending x (and y).

    A point is beaten by one that is no worse in both (x no greater, y no less) and better in one; so of equal points
    either all are in the front or none.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not front or point.y > front[-1].y or (point.x, point.y) == (front[-1].x, front[-1].y):
            front.append(point)
    return front


def _plain_tick(value: float) -> str:
    return f"{value:g}"


def _size_tick(value: float) -> str:
    """`size` without the zeros behind the point: 10 MB, 2.5 GB."""
    number, _, unit = size(value).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"
