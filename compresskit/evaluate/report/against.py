"""What the pairing with the baseline tells of each row, as tables: differences in quality, ratios measured in turns."""

from __future__ import annotations

from compresskit.evaluate.ratio import MOST_SPREAD, Ratio
from compresskit.evaluate.report.grid import Grid
from compresskit.evaluate.report.slice_table import span
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.units import PROBABILITY, UNMEASURED, per_cent, signed
from compresskit.text import printable

WIDE = "!"
"""Stands behind a ratio whose rounds differ by more than `MOST_SPREAD`."""
RATIO_HEADINGS = {"latency_ratio": "p50", "rate_ratio": "q/s", "memory_ratio": "memory"}

_QUALITY = ("Against the baseline", "Δ EM", "95 %\ninterval", "p", "Won", "Lost", "Δ F1", "95 % interval\nof Δ F1")
# What is left out first where there is little room.
_QUALITY_RANKS = (0, 0, 0, 1, 3, 3, 2, 2)


def differences(report: Report) -> Grid | None:
    """A line for each row that was paired with the baseline; None where there is none."""
    if report.baseline is None:
        return None
    lines = [_difference(row) for row in report.rows if row.delta_em_ci95 is not None]
    return Grid(_QUALITY, lines, _QUALITY_RANKS) if lines else None


def _difference(row: Row) -> list[str]:
    counts = (UNMEASURED if count is None else f"{count:,}" for count in (row.questions_won, row.questions_lost))
    p_value = UNMEASURED if row.p_value is None else PROBABILITY.cell(row.p_value)
    em, f1 = (_around(row, key) for key in ("delta_em", "delta_f1"))
    return [printable(row.name), em, span(row.delta_em_ci95), p_value, *counts, f1, span(row.delta_f1_ci95)]


def _around(row: Row, key: str) -> str:
    """A difference, with the standard deviation over the runs of a mean."""
    value, sd = row.value(key), (row.sd or {}).get(key)
    return UNMEASURED if value is None else signed(value) + ("" if sd is None else f" ± {per_cent(sd)}")


def ratios(report: Report) -> Grid | None:
    """A line for each row that was measured in turns with the baseline; None where there is none."""
    measured = [(row.name, found) for row in report.rows if not row.baseline and (found := _ratios(row))]
    keys = [key for key in RATIO_HEADINGS if any(key in found for _, found in measured)]
    lines = [
        [printable(name), str(max(each.rounds for each in found.values())), *(written(found.get(key)) for key in keys)]
        for name, found in measured
    ]
    headings = ["In turns with the baseline", "Rounds", *(RATIO_HEADINGS[key] for key in keys)]
    return Grid(headings, lines, [0] * len(headings)) if lines else None


def _ratios(row: Row) -> dict[str, Ratio]:
    """The ratios of a row that were measured, by their keys."""
    return {key: found for key in RATIO_HEADINGS if (found := getattr(row, key)) is not None}


def written(ratio: Ratio | None) -> str:
    """A ratio with its spread."""
    if ratio is None:
        return UNMEASURED
    return f"{ratio.median:.3f}x {spread(ratio)}".rstrip()


def spread(ratio: Ratio | None) -> str:
    """The spread of a ratio; empty where there is none."""
    if ratio is None or ratio.spread is None:
        return ""
    return f"± {100 * ratio.spread:.1f} %{WIDE if is_wide(ratio) else ''}"


def is_wide(ratio: Ratio | None) -> bool:
    """Whether the rounds differ so much that a limit within the spread cannot be told."""
    return ratio is not None and ratio.spread is not None and ratio.spread > MOST_SPREAD
