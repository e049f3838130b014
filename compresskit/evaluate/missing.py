"""Why a gate has no figure, or no limit, to judge by: in words, since "not measured" may mean many things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresskit.evaluate.slice import Slice

if TYPE_CHECKING:
    from compresskit.evaluate.gate import Judged, Rule
    from compresskit.evaluate.row import Row

NOT_SCORED = "not scored"
_MOST_VALUES = 12


def why_missing(rule: Rule, row: Row, baseline: Row | None, own: Judged, limit: float | None) -> str | None:
    """What `row` lacks that `rule` needs; None where "not measured" says it all.

    No reason names the row, so that many rows with the same one share a line.

    `own` is what the rule is about, the row or its slice; `limit` is None where the baseline's figure is not known.
    """
    if row.error is not None:
        return NOT_SCORED
    if rule.part is not None and isinstance(own, Slice) and not own.questions:
        return _no_slice(rule, row)
    if limit is None:
        return _no_limit(rule, baseline)
    if own.value(rule.metric) is None:
        is_of_one = any(run.value(rule.metric) is not None for run in row.runs or ())
        return f"a mean of runs has no {rule.metric}; write @worst behind the rule" if is_of_one else None
    if not rule.ci95:  # what stands in the table, and is not judged
        return f"{rule.metric} is of an earlier call, which no gate judges"
    is_paired = rule.kind != "absolute" or rule.metric.startswith("delta_")
    if is_paired and getattr(own, "em_ci95", None) is not None:
        return "not compared with this baseline question by question"
    return "one paragraph alone has no interval"


def _no_limit(rule: Rule, baseline: Row | None) -> str | None:
    if baseline is None:
        return None
    if baseline.error is not None:
        return "the baseline could not be scored"
    if rule.part is not None and baseline.value(rule.metric) is not None:
        return "slices were not compared with the baseline's"
    return f"the baseline has no {rule.metric}"


def _no_slice(rule: Rule, row: Row) -> str:
    assert rule.part is not None
    key, value = rule.part.key, rule.part.value
    values = list((row.slices or {}).get(key, {}))
    if not values:
        return f"no slices of {key}"
    told = ", ".join(values[:_MOST_VALUES]) + (", …" if len(values) > _MOST_VALUES else "")
    return f"no questions of the slice {key}={value}; the values are {told}"
