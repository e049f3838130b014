"""What a report says of times and memory: ratios measured in turns, kept rows, what else the machine did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compresskit.evaluate import machine
from compresskit.evaluate.figures import Figure, Group
from compresskit.evaluate.ratio import MOST_SPREAD, Ratio
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.units import RATIO

RATIO_FIGURES: Mapping[str, Figure] = {
    "latency_ratio": Figure("p50\n/base", RATIO, "p50 latency over the baseline's", "lower", Group.AGAINST, 2),
    "rate_ratio": Figure("q/s\n/base", RATIO, "questions/s over the baseline's", "higher", Group.AGAINST, 3),
    "memory_ratio": Figure("Memory\n/base", RATIO, "peak memory over the baseline's", "lower", Group.AGAINST, 4),
}
"""The columns of what was measured in turns, by the keys of a row; they stand where a row has the ratio."""


def ratio_in(row: Row, key: str) -> float | None:
    """The median of one of a row's ratios; None where it was not measured."""
    found: Ratio | None = getattr(row, key)
    return None if found is None else found.median


def any_ratio(rows: Sequence[Row], key: str) -> bool:
    """Whether any row has a ratio."""
    return any(getattr(row, key) is not None for row in rows)


def told_of_times(report: Report) -> list[str]:
    """Lines on the ratios, on what their rounds differ by, on rows of an earlier call, and on the machine."""
    lines = [line for row in report.rows if not row.baseline for line in _ratios(row)]
    if kept := [f"{row.name} ({row.created})" for row in report.rows if row.kept and _has_times(row)]:
        lines.append(f"time and memory from an earlier call, which no gate judges: {', '.join(kept)}")
    return lines + machine.told(report.device)


def _has_times(row: Row) -> bool:
    return any(value is not None for value in (row.latency_ms_p50, row.questions_per_s, row.peak_memory_bytes))


def _ratios(row: Row) -> list[str]:
    """A line on a row's ratios, and one more where a spread is so great that a limit within it cannot be told."""
    names = {"latency_ratio": "p50", "rate_ratio": "q/s", "memory_ratio": "memory"}
    found: dict[str, Ratio] = {names[key]: ratio for key in names if (ratio := getattr(row, key)) is not None}
    if not found:
        return []
    said = ", ".join(f"{name} {_written(ratio)}" for name, ratio in found.items())
    lines = [f"{row.name} over the baseline, measured in turns: {said}"]
    wide = [name for name, ratio in found.items() if ratio.spread is not None and ratio.spread > MOST_SPREAD]
    if wide:
        lines.append(
            f"{row.name}: the rounds differ by more than {100 * MOST_SPREAD:.0f} % in {', '.join(wide)}, "
            "and a limit within the spread cannot be told; give more --rounds, or a quieter machine"
        )
    return lines


def _written(ratio: Ratio) -> str:
    if ratio.spread is None:
        return f"{ratio.median:.3f}x (one round)"
    return f"{ratio.median:.3f}x ± {100 * ratio.spread:.1f} % ({ratio.rounds} rounds)"
