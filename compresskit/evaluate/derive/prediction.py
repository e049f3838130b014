"""How far the next value may lie from those that were seen: prediction bounds with Student's t.

A confidence interval tells where the true mean is. A gate judges another value, which varies by itself, so it needs a
prediction bound, and that is wider.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm, t

# Of the normal distribution: what leaves 2.5 % above it, and 20 %.
_OF_INTERVAL, _OF_POWER = float(norm.ppf(0.975)), float(norm.ppf(0.8))


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What stands between a mean that was seen and the next value.

    `following` is the variance of the next value, `seen` that of the mean, `freedom` the degrees of freedom by which
    both were estimated.
    """

    following: float
    seen: float
    freedom: float

    @property
    def variance(self) -> float:
        """The variance of the next value less the mean."""
        return self.following + self.seen


def of_values(values: Sequence[float]) -> Uncertainty:
    """That of one more value of the same kind: s² (1 + 1/n) with n - 1 degrees of freedom, of n ≥ 2 values."""
    squared = statistics.variance(values)
    return Uncertainty(squared, squared / len(values), len(values) - 1)


def of_interval(interval: tuple[float, float]) -> Uncertainty:
    """That of the same mean over another sample as large as the one that has this 95 % interval: 2 s².

    s is the standard error for which the interval stands, its width over 2 · 1.96; the sample is taken to be large.
    """
    squared = ((interval[1] - interval[0]) / (2 * _OF_INTERVAL)) ** 2
    return Uncertainty(squared, squared, math.inf)


def room(parts: Sequence[Uncertainty], sure: float) -> float:
    """How far below (or above) its mean the next value may lie, with the probability `sure` that it lies no farther.

    One part: t(sure; n - 1) · s · √(1 + 1/n), the one-sided prediction bound of a normal sample (Hahn 1970, Journal of
    the American Statistical Association 65, 1668-1676; Hahn & Meeker 1991, Statistical Intervals, chapter 4). Of a
    difference of two independent means the variances add up, and the degrees of freedom are those of Welch and
    Satterthwaite (Satterthwaite 1946, Biometrics Bulletin 2, 110-114). 0 where nothing varied.
    """
    total = sum(part.variance for part in parts)
    if total == 0:
        return 0.0
    return float(t.ppf(sure, _freedom(parts))) * math.sqrt(total)


def _freedom(parts: Sequence[Uncertainty]) -> float:
    """The degrees of freedom of a sum of variances; infinite where all are known."""
    total = sum(part.variance for part in parts)
    divided = sum(part.variance**2 / part.freedom for part in parts)
    return total**2 / divided if divided > 0 else math.inf


def failing(limit: float, parts: Sequence[Uncertainty]) -> float:
    """The true figure that falls below `limit` in four of five cases: lower by 0.84 standard deviations."""
    return limit - _OF_POWER * math.sqrt(sum(part.following for part in parts))
