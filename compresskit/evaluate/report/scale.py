"""The one place that decides the scale of axes and heat maps, the same for every report and every picture.

Quality in per cent is linear. A cost (bytes, milliseconds) is logarithmic: half of it is as far away everywhere. A heat
map of per cents goes from 0 to 100: one colour means one share in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PER_CENTS = (0.0, 100.0)
"""The ends of every heat map of per cents; no quality goes beyond them."""

_MOST_TICKS = 6
_FEW_TICKS = 3
# Differences below this fraction of the greatest quality, and costs nearer than by this factor, are not blown up to
# fill the axis.
_LEAST_SPAN = 0.02
_LEAST_FACTOR = 2.0
# What lies beyond the outermost points at each end, in parts of the span between them: room for their labels.
_MARGIN = 0.08


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


def quality_axis(values: Sequence[float]) -> Axis:
    """A linear axis that holds all `values` (per cents) with some room at both ends; blank from 0 to 1 without any."""
    return _linear(values, _LEAST_SPAN, PER_CENTS[1], "{:g}".format) if values else _BLANK


def cost_axis(values: Sequence[float], text: Callable[[float], str]) -> Axis:
    """A logarithmic axis that holds all `values` with some room at both ends; `text` writes a tick's label.

    It is linear where one of them is 0, for which a logarithmic one has no place, and blank from 0 to 1 without any.
    """
    if not values:
        return _BLANK
    low, high = min(values), max(values)
    if low <= 0:
        return _linear(values, _LEAST_SPAN, math.inf, text)
    factor = max(high / low, _LEAST_FACTOR)
    middle, half = math.sqrt(low) * math.sqrt(high), factor ** (0.5 + _MARGIN)
    low, high = middle / half, middle * half
    return Axis(low, high, True, tuple((tick, text(tick)) for tick in _log_ticks(low, high)))


_BLANK = Axis(0.0, 1.0, False, ())


def _linear(values: Sequence[float], least_span: float, most: float, text: Callable[[float], str]) -> Axis:
    """An axis that spans at least `least_span` times the greatest value, and goes neither below 0 nor above `most`."""
    low, high = min(values), max(values)
    span = max(high - low, least_span * high) or 10.0
    middle, half = (low + high) / 2, span * (0.5 + _MARGIN)
    low, high = max(middle - half, 0.0), min(middle + half, most)
    return Axis(low, high, False, tuple((tick, text(tick)) for tick in _linear_ticks(low, high)))


def _linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between the ends, at most `_MOST_TICKS`."""
    wanted = (high - low) / (_MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """As many of 1, 2 and 5 times the powers of ten between the ends as do not crowd; over a short way, even steps."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [tick for power in powers for factor in factors if low <= (tick := factor * 10.0**power) <= high]
        if len(ticks) <= _MOST_TICKS:
            return ticks if len(ticks) >= _FEW_TICKS else _linear_ticks(low, high)
    return ticks[:: math.ceil(len(ticks) / _MOST_TICKS)]
