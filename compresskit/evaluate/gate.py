"""Gates: rules such as ``em>=base-1`` or ``size<=0.3x`` that a row of a report holds or fails."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from compresskit.errors import UsageError
from compresskit.evaluate.row import Gate, Report, Row

SHORT_NAMES: Mapping[str, str] = {
    "size": "deploy_bytes",
    "memory": "peak_memory_bytes",
    "latency": "latency_ms_p50",
}
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
BYTES: Mapping[str, float] = {
    **{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    **{"KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
}
MILLISECONDS: Mapping[str, float] = {"ms": 1, "s": 1e3}
# Figures of a row that are no measure of it, or have no order.
_NO_METRIC = ("name", "path", "family", "method", "baseline", "delta_em_ci95", "peak_memory_kind", "error")

_RULE = re.compile(r"(?P<metric>\w+)\s*(?P<op>>=|<=|>|<)\s*(?P<value>[^=<>].*)")
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_VALUE = re.compile(rf"(?:(?P<base>base)\s*(?:(?P<sign>[+-])\s*)?)?(?P<number>-?{_NUMBER})?\s*(?P<unit>[A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class Rule:
    """``metric op limit``: the limit is ``number``, ``number`` times the baseline's figure, or that figure plus it.

    `text` is the rule as the user wrote it; `metric` is a key of `Row`.
    """

    text: str
    metric: str
    op: str
    number: float
    kind: Literal["absolute", "ratio", "offset"]

    def limit(self, baseline: Row | None) -> float | None:
        """Return the limit in the metric's own unit; None where the baseline's figure is needed but not there."""
        if self.kind == "absolute":
            return self.number
        base = getattr(baseline, self.metric) if baseline is not None else None
        if base is None:
            return None
        return float(base * self.number if self.kind == "ratio" else base + self.number)

    def verdict(self, row: Row, baseline: Row | None) -> Gate:
        """Return whether ``row`` holds the rule; a figure or a limit that was not measured fails."""
        value, limit = getattr(row, self.metric), self.limit(baseline)
        passed = value is not None and limit is not None and OPERATORS[self.op](value, limit)
        return Gate(self.text, row.name, passed, None if value is None else float(value), limit)


def parse_rules(texts: Sequence[str], *, has_baseline: bool) -> list[Rule]:
    """Read every rule; UsageError where one is not understood, or needs a baseline and there is none."""
    rules = [parse(text) for text in texts]
    for rule in rules:
        if rule.kind != "absolute" and not has_baseline:
            raise UsageError(f"--gate {rule.text!r} compares with a baseline; name it with --baseline")
    return rules


def parse(text: str) -> Rule:
    """Read ``METRIC OP VALUE``; UsageError where a part is not understood.

    METRIC is a key of a row or a short name (em, f1, size, memory, latency); VALUE a number, one with a unit (300MB,
    20ms), one relative to the baseline (0.3x), or an offset from it (base-1.0).
    """
    rule = _RULE.fullmatch(text.strip())
    if rule is None:
        raise UsageError(f"--gate {text!r} is no rule; write METRIC OP VALUE, such as 'em>=base-1' or 'size<=0.3x'")
    metric = SHORT_NAMES.get(rule["metric"], rule["metric"])
    known = [field.name for field in fields(Row) if field.name not in _NO_METRIC]
    if metric not in known:
        names = ", ".join([*SHORT_NAMES, *known])
        raise UsageError(f"--gate {text!r}: there is no figure {rule['metric']!r}; take one of {names}")
    value = _VALUE.fullmatch(rule["value"].strip())
    if value is None or (value["number"] is None) != (value["sign"] is None and value["base"] is not None):
        raise UsageError(f"--gate {text!r}: {rule['value']!r} is no limit; write 80, 300MB, 20ms, 0.3x or base-1.0")
    number, unit = float(value["number"] or 0), value["unit"]
    if value["base"] is not None:
        sign = -1 if value["sign"] == "-" else 1
        return Rule(text, metric, rule["op"], sign * number * _scale(text, metric, unit), "offset")
    if unit == "x":
        return Rule(text, metric, rule["op"], number, "ratio")
    return Rule(text, metric, rule["op"], number * _scale(text, metric, unit), "absolute")


def _scale(text: str, metric: str, unit: str) -> float:
    """Return what one ``unit`` is in the metric's own unit; UsageError where it is none of its units."""
    units = BYTES if metric.endswith("_bytes") else MILLISECONDS if metric.startswith("latency_ms") else {}
    if unit and unit not in units:
        allowed = f"use {', '.join(units)}" if units else "it has none"
        raise UsageError(f"--gate {text!r}: {unit!r} is no unit of {metric}; {allowed}")
    return units.get(unit, 1.0)


def check(report: Report, rules: Sequence[Rule]) -> tuple[Gate, ...]:
    """Return a verdict for each rule on each row but the baseline, which is what the others are held against."""
    baseline = next((row for row in report.rows if row.baseline), None)
    return tuple(rule.verdict(row, baseline) for rule in rules for row in report.rows if not row.baseline)


def gated(report: Report, rules: Sequence[Rule]) -> Report:
    """Return the report with the verdicts of ``rules``."""
    gates = check(report, rules)
    return replace(report, gates=gates, passed=all(gate.passed for gate in gates))


def explain(gate: Gate) -> str:
    """Return a verdict as one phrase: the rule, the row, its figure and the limit."""
    value = "not measured" if gate.value is None else f"{gate.value:.10g}"
    limit = "not measured" if gate.limit is None else f"{gate.limit:.10g}"
    return f"{gate.rule} {'holds' if gate.passed else 'fails'} for {gate.row} ({value}, limit {limit})"
