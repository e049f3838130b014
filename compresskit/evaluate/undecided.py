"""Gates that too few questions were asked for: the limit lies inside the interval, so either verdict may be chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from compresskit.evaluate.row import Gate, Interval
from compresskit.evaluate.units import per_cent

# Of the normal distribution: what leaves 2.5 % above it (a 95 % interval), and 20 % (a power of 80 %).
_OF_INTERVAL, _OF_POWER = 1.959964, 0.841621
# Points; a figure that is nearer to its limit differs from it by how floats add up.
_NEAR = 1e-9
_MORE_RUNS = "more questions or more runs may decide"


def questions_needed(point: float, interval: Interval, limit: float, questions: int) -> int | None:
    """How many questions would tell on which side of `limit` a figure lies, in four of five samples.

    `point` is the figure on `questions` questions, `interval` its 95 % interval, all in points. With s the standard
    error that the interval stands for, N = questions · (1.96 + 0.84)² s² / (point - limit)². For a paired difference in
    EM s² is (d - δ²) / questions, d being the share of the questions that flipped and δ the difference, times what it
    costs that the questions of a paragraph are alike. So it is the sample size of paired proportions against a margin:
    Connor 1987, Biometrics 43, 207-211 (a margin of 0); Liu, Hsueh, Hsieh & Chen 2002, Statistics in Medicine 21,
    231-245 (any). None where the figure is the limit itself: no number of questions would do.
    """
    distance = abs(point - limit)
    if distance < _NEAR:
        return None
    error = (interval[1] - interval[0]) / (2 * _OF_INTERVAL)
    return math.ceil(questions * ((_OF_INTERVAL + _OF_POWER) * error / distance) ** 2)


def weighed(
    gate: Gate,
    holds: Callable[[float, float], bool],
    point: float,
    interval: Interval | None,
    questions: int,
    *,
    is_slice: bool = False,
    has_runs: bool = False,
) -> Gate:
    """The verdict, with what the interval says of it where the limit lies inside.

    `holds` is the rule's operator, `point` the figure itself on `questions` questions, those of a slice where
    `is_slice`. Where the interval is over runs too (`has_runs`), how many questions would decide is not known. A gate
    on the interval (`ci95`) is then undecided, and does not pass; one on the point stays as it is, and says so.
    """
    limit = gate.limit
    if limit is None or interval is None or holds(interval[0], limit) == holds(interval[1], limit):
        return gate
    needed = None if has_runs else questions_needed(point, interval, limit, questions)
    told = _reason(interval, _MORE_RUNS if has_runs else _enough(needed, is_slice))
    known = replace(gate, questions_needed=needed, reason=told)
    return replace(known, verdict="undecided", passed=False) if gate.ci95 else known


def _enough(needed: int | None, is_slice: bool) -> str:
    if needed is None:
        return "no number of questions tells a figure from its equal"
    return f"some {_two_digits(needed):,} {'questions of this slice' if is_slice else 'questions'} would decide"


def _reason(interval: Interval, mend: str) -> str:
    return f"the limit lies inside the 95 % interval {' to '.join(map(per_cent, interval))}; {mend}"


def _two_digits(count: int) -> int:
    """A count rounded up to two digits: it is an estimate."""
    power: int = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // power) * power
