"""What a report says of times and memory: ratios measured in turns, kept rows, what else the machine did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compresskit.evaluate import machine
from compresskit.evaluate.figures import Figure, Group
from compresskit.evaluate.ratio import MOST_SPREAD, Ratio
from compresskit.evaluate.report.against import WIDE, is_wide
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import singles
from compresskit.evaluate.units import TIMES

RATIO_FIGURES: Mapping[str, Figure] = {
    "latency_ratio": Figure("p50\n/base", TIMES, "p50 latency over the baseline's", "lower", Group.AGAINST, 16),
    "rate_ratio": Figure("q/s\n/base", TIMES, "questions/s over the baseline's", "higher", Group.AGAINST, 17),
    "memory_ratio": Figure("Memory\n/base", TIMES, "peak memory over the baseline's", "lower", Group.AGAINST, 18),
}
"""The columns of what was measured in turns, by the keys of a row; they stand where a row has the ratio.

They are the first to be left out, for a table of their own has them too."""


def ratio_in(row: Row, key: str) -> float | None:
    """The median of one of a row's ratios; None where it was not measured."""
    found: Ratio | None = getattr(row, key)
    return None if found is None else found.median


def any_ratio(rows: Sequence[Row], key: str) -> bool:
    """Whether any row has a ratio."""
    return any(getattr(row, key) is not None for row in rows)


def told_of_times(report: Report) -> list[str]:
    """Lines on what the rounds differ by, on rows of an earlier call, and on the machine."""
    lines = []
    if wide := [row.name for row in report.rows if any(is_wide(getattr(row, key)) for key in RATIO_FIGURES)]:
        lines.append(
            f"the rounds differ by more than {100 * MOST_SPREAD:.0f} % ({WIDE}), so a limit within the spread cannot "
            f"be told; give more --rounds, or a quieter machine: {', '.join(wide)}"
        )
    if kept := [f"{row.name} ({row.created})" for row in singles(report.rows) if row.kept and _has_times(row)]:
        lines.append(f"time and memory from an earlier call, which no gate judges: {', '.join(kept)}")
    return lines + machine.told(report.device)


def _has_times(row: Row) -> bool:
    return any(value is not None for value in (row.latency_ms_p50, row.questions_per_s, row.peak_memory_bytes))
