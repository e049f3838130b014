"""What two checkpoints, measured in turns, say of each other: the median over the rounds, and its spread.

A round measures every checkpoint once, one after the other. So the figures of one round were taken within seconds of
each other, and what slows the machine for minutes slows both: their ratio stays.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

RATIOS: Mapping[str, str] = {
    "latency_ratio": "latency_ms_p50",
    "rate_ratio": "questions_per_s",
    "memory_ratio": "peak_memory_bytes",
}
"""The ratios of a row, each with the figure that it is of."""

MOST_SPREAD = 0.15
"""Beyond this spread, a limit within the spread cannot be told from the median."""

_LEAST_CHANCE = 0.05 / 2

Pairs = Sequence[Sequence[float]]
"""A figure and the baseline's of the same round, one pair a round."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure over the baseline's: the median over `rounds` of the ratios of the same round, and its spread.

    `spread` is a fraction of the median; None where there is one round alone.
    """

    median: float
    spread: float | None
    rounds: int


def ratio_of(pairs: Pairs) -> Ratio | None:
    """The ratio of a figure to the baseline's; None where there is no round, or the baseline's figure is 0."""
    found = [own / base for own, base in pairs if base > 0]
    return Ratio(*middle_and_spread(found), len(found)) if found else None


def upon_baseline(pairs: Pairs, *, offset: bool) -> tuple[list[float], float | None]:
    """What each round says of a figure by its ratio to the baseline's (with `offset`, by its difference).

    Each is told upon the baseline's median, which comes second: both are in the figure's own unit. Empty, and None,
    where there is no round, or the baseline's figure is 0.
    """
    known = [(own, base) for own, base in pairs if base > 0]
    if not known:
        return [], None
    middle = statistics.median(base for _, base in known)
    return [middle + own - base if offset else middle * own / base for own, base in known], middle


def middle_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """The median of values, one a round, and its spread."""
    return statistics.median(values), spread(values)


def spread(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the median, as a fraction of the median; None for one value or a median of 0.

    The interval is that by ranks, which asks nothing of how the values are spread: of 6 to 8 values it goes from the
    least to the greatest, of more it leaves out as many at each end as it may. (Of 5 or fewer it is an interval of
    less than 95 %.)
    """
    middle = statistics.median(values)
    if len(values) < 2 or not middle:
        return None
    ordered, out = sorted(values), _left_out(len(values))
    return (ordered[-1 - out] - ordered[out]) / 2 / abs(middle)


def _left_out(count: int) -> int:
    """How many of `count` values at each end the interval of their median leaves out.

    So many or fewer lie below the true median with a chance of at most 2.5 %: heads of `count` throws of a coin.
    """
    chance, out = 0.5**count, 0
    while (chance := chance + math.comb(count, out + 1) * 0.5**count) <= _LEAST_CHANCE:
        out += 1
    return out


def held(middle: float, around: float | None, limit: float, compare: Callable[[float, float], bool]) -> bool | None:
    """Whether a median holds a limit; None where it cannot be told.

    That is where `around`, its spread, is more than 15 %, and the limit lies within it.
    """
    if around is None or around <= MOST_SPREAD:
        return compare(middle, limit)
    ends = {compare(middle * (1 + sign * around), limit) for sign in (-1, 1)}
    return ends.pop() if len(ends) == 1 else None
