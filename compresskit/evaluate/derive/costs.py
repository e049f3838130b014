"""What may be added to bytes, time and memory: how far a re-run may lie above the ratio to the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from compresskit.evaluate.derive.prediction import of_values, room
from compresskit.evaluate.derive.source import Source, runs_of
from compresskit.evaluate.ratio import MOST_SPREAD, spread
from compresskit.evaluate.row import FIGURES, Row
from compresskit.text import counted

ROOM = 0.02
"""A share of what was measured that a limit leaves at least: files of another version of a library, pages of memory."""
_MOST = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """A figure that may be gated by its ratio to the baseline's: its key in a row, and its name in a rule."""

    metric: str
    stem: str
    in_turns: bool
    without: str


COSTS = (
    Cost("deploy_bytes", "size", False, ""),
    Cost("latency_ms_p50", "latency", True, "measure with --rounds 6"),
    Cost("peak_memory_bytes", "memory", True, "measure once with a gate on it, such as 'memory<=2x'"),
)


@dataclass(frozen=True, slots=True)
class CostLimit:
    """The ratio to the baseline below which a re-run of a row stays, and why, in sentences."""

    row: str
    ratio: float
    reason: str


def cost_of(cost: Cost, row: Row, source: Source, sure: float) -> CostLimit | str:
    """The limit of one row, of its runs the greatest; or in words why there is none."""
    found = [_in_turns(cost, run, sure) if cost.in_turns else _bytes(cost, run, source) for run in runs_of(row)]
    limits = [each for each in found if isinstance(each, CostLimit)]
    if len(limits) < len(found):
        return next(each for each in found if isinstance(each, str))
    return max(limits, key=lambda limit: limit.ratio)


def _bytes(cost: Cost, row: Row, source: Source) -> CostLimit | str:
    own, base = row.value(cost.metric), source.baseline.value(cost.metric)
    if own is None or not base:
        return f"no bytes were measured of {row.name if own is None else source.baseline.name}"
    if not _is_sensible(own / base):
        return f"the bytes of {row.name} and of the baseline cannot be"
    write = FIGURES[cost.metric].unit.alone
    reason = f"{row.name}: {write(own)} of the baseline's {write(base)}, {own / base:.4g}x, and {ROOM:.0%} more."
    return CostLimit(row.name, own / base * (1 + ROOM), reason)


def _in_turns(cost: Cost, row: Row, sure: float) -> CostLimit | str:
    """By the rounds: the prediction bound of one more round, which the median of several holds the more."""
    ratios = [own / base for own, base in row.turns.get(cost.metric, ()) if base > 0]
    if len(ratios) < 2:
        how_often = "measured in one round alone" if ratios else "not measured in turns with the baseline"
        return f"{row.name} was {how_often}; {cost.without}"
    if not all(map(_is_sensible, ratios)):
        return f"the rounds of {row.name} tell no times and no bytes that can be"
    around = spread(ratios)
    if around is not None and around > MOST_SPREAD:
        return (
            f"the {counted(len(ratios), 'round')} of {row.name} differ by {around:.0%}; give more, or a quiet machine"
        )
    middle = statistics.median(ratios)
    bound = max(statistics.fmean(ratios) + room([of_values(ratios)], sure), middle * (1 + ROOM))
    reason = (
        f"{row.name}: {_shown(middle)} in the median of {counted(len(ratios), 'round')}, {_shown(min(ratios))} to "
        f"{_shown(max(ratios))}. One more round stays below {_shown(bound)} with {100 * sure:g} %, a median of several "
        f"the more so; {ROOM:.0%} is the least room."
    )
    return CostLimit(row.name, bound, reason)


def _is_sensible(ratio: float) -> bool:
    return 1 / _MOST < ratio < _MOST


def _shown(ratio: float) -> str:
    return f"{ratio:.3f}x"


def weakest(limits: Sequence[CostLimit]) -> CostLimit:
    """The limit that all rows hold."""
    return max(limits, key=lambda limit: limit.ratio)
