"""What a scatter plot of a report shows, whatever draws it: points, the Pareto front, axes with their ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compresskit.evaluate.row import FIGURES, Report
from compresskit.evaluate.units import size

LOG_RATIO = 20.0
"""An axis whose greatest value is more than so many times its least is logarithmic."""

_MOST_TICKS = 6
# Differences below this fraction of the greatest value are not blown up to fill the axis.
_LEAST_SPAN_X = 0.1
_LEAST_SPAN_Y = 0.02
_MARGIN = 0.08


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint: `y` is its EM in per cent, `x` what it costs (bytes or milliseconds)."""

    name: str
    x: float
    y: float
    is_baseline: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values, linear or logarithmic, and its ticks (value, label), ascending."""

    low: float
    high: float
    is_log: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Where `value` lies along the axis: 0 at `low`, 1 at `high`."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


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
    """EM against deploy size, and EM against latency (p50, one question at a time)."""
    return (
        _scatter(report, "deploy size", "smaller", "Deploy size", "deploy_bytes", _size_tick),
        _scatter(report, "latency", "faster", "Latency p50, ms", "latency_ms_p50", _plain_tick),
    )


def _scatter(
    report: Report, cost: str, advantage: str, quantity: str, key: str, tick: Callable[[float], str]
) -> Scatter:
    points, missing = [], []
    for row in report.rows:
        x = row.value(key)
        if x is None or row.em is None:
            missing.append(row.name)
        else:
            points.append(Point(row.name, float(x), row.em, row.baseline))
    return Scatter(
        cost,
        advantage,
        quantity,
        tuple(points),
        tuple(missing),
        axis([point.x for point in points], tick, _LEAST_SPAN_X),
        axis([point.y for point in points], _plain_tick, _LEAST_SPAN_Y, most=100.0),
        FIGURES[key].unit.alone,
    )


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


def axis(values: Sequence[float], text: Callable[[float], str], least_span: float, most: float = math.inf) -> Axis:
    """An axis that holds all `values` (none of them negative) with some room at both ends.

    It is logarithmic where all are positive and the greatest is more than `LOG_RATIO` times the least. A linear one
    spans at least `least_span` times the greatest value, and goes neither below 0 nor above `most`. `text`
    writes a tick's label. Without values it is a blank one from 0 to 1.
    """
    if not values:
        return Axis(0.0, 1.0, False, ())
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_RATIO:
        room = (high / low) ** _MARGIN
        low, high = low / room, high * room
        ticks, is_log = _log_ticks(low, high), True
    else:
        span = max(high - low, least_span * high) or 10.0
        middle, half = (low + high) / 2, span * (0.5 + _MARGIN)
        low, high = max(middle - half, 0.0), min(middle + half, most)
        ticks, is_log = _linear_ticks(low, high), False
    return Axis(low, high, is_log, tuple((tick, text(tick)) for tick in ticks))


def _linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between the ends, at most `_MOST_TICKS`."""
    wanted = (high - low) / (_MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """As many of 1, 2 and 5 times the powers of ten between the ends as do not crowd."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [tick for power in powers for factor in factors if low <= (tick := factor * 10.0**power) <= high]
        if len(ticks) <= _MOST_TICKS:
            return ticks
    return ticks[:: math.ceil(len(ticks) / _MOST_TICKS)]


def _plain_tick(value: float) -> str:
    return f"{value:g}"


def _size_tick(value: float) -> str:
    """`size` without the zeros behind the point: 10 MB, 2.5 GB."""
    number, _, unit = size(value).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"
