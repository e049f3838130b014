"""Gates: rules such as `em>=base-1` or `size<=0.3x` that a row of a report holds or fails."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from compresskit.errors import UsageError
from compresskit.evaluate import timed
from compresskit.evaluate.figures import ASKED, Figure
from compresskit.evaluate.row import FIGURES, Gate, Report, Row, figure_of
from compresskit.evaluate.slice import GATED, Slice, SliceName, slice_name
from compresskit.evaluate.slices import lost_most
from compresskit.evaluate.units import POINTS

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_SLICE = r"""\[(?P<part>(?:"[^"]*"|'[^']*'|[^]"'])*)]"""
_RULE = re.compile(rf"(?P<metric>[\w./@:-]+)\s*(?:{_SLICE}\s*)?(?P<op>>=|<=|>|<)\s*(?P<value>[^=<>].*)")
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_VALUE = re.compile(rf"(?:(?P<base>base)\s*(?:(?P<sign>[+-])\s*)?)?(?P<number>-?{_NUMBER})?\s*(?P<unit>[A-Za-z]*)")

_FAIR: Mapping[str, Figure] = {name: figure for name, figure in FIGURES.items() if figure.unfair is None}
_BY_SHORT_NAME: Mapping[str, str] = {figure.short: name for name, figure in _FAIR.items() if figure.short is not None}
# What a rule can name, as a message lists it: the short names stand behind EM and F1.
_NAMES: Sequence[str] = tuple(dict.fromkeys(["em", "f1", *_BY_SHORT_NAME, *_FAIR, *ASKED]))
_QUALITY = ("em", "f1", "delta_em", "delta_f1")

Judged = Row | Slice
"""What has figures that a rule can be about."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`metric op limit`: the limit is `number`, `number` times the baseline's figure, or that figure plus it.

    `text` is the rule as the user wrote it; `metric` is a key of `Row`, or a name among its `metrics`. With `ci95` the
    worse end of the figure's 95 % interval has to hold the rule. `part` is the slice whose figures count, None for all.
    Where a rule does not hold, `otherwise` may.
    """

    text: str
    metric: str
    op: str
    number: float
    kind: Literal["absolute", "ratio", "offset"]
    ci95: bool = False
    part: SliceName | None = None
    otherwise: Rule | None = None

    def limit(self, baseline: Judged | None) -> float | None:
        """The limit in the metric's own unit; None where the baseline's figure is needed but not there."""
        if self.kind == "absolute":
            return self.number
        base = None if baseline is None else _value(baseline, self.metric)
        if base is None:
            return None
        return base * self.number if self.kind == "ratio" else base + self.number

    def value(self, row: Judged, baseline: Judged | None) -> float | None:
        """The figure that is held against the limit; None where it was not measured.

        With `ci95`, a rule relative to the baseline takes the interval of the paired difference, put upon the
        baseline's figure; an absolute one that of the figure itself.
        """
        if not self.ci95:
            return _value(row, self.metric)
        figure = FIGURES[self.metric]
        interval = row.interval(figure)
        shift: float | None = 0.0
        if self.kind != "absolute" and baseline is not None:
            interval = None if figure.difference is None else row.interval(FIGURES[figure.difference])
            shift = _value(baseline, self.metric)
        if interval is None or shift is None:
            return None
        return shift + interval[0 if self.op in (">=", ">") else 1]

    def verdict(self, row: Row, baseline: Row | None) -> Gate:
        """Whether `row` holds the rule; a figure or a limit that was not measured fails."""
        first = timed.judged(self, row, OPERATORS[self.op]) if timed.is_in_turns(self) else self._plain(row, baseline)
        return first if self.otherwise is None else timed.either(self, first, self.otherwise.verdict(row, baseline))

    def _plain(self, row: Row, baseline: Row | None) -> Gate:
        own: Judged = row
        base: Judged | None = baseline
        if self.part is not None:
            own = self.part.of(row.slices)
            base = own.of_baseline
        value, limit = self.value(own, base), self.limit(base)
        passed = value is not None and limit is not None and OPERATORS[self.op](value, limit)
        blames = not passed and self.part is None and self.metric in _QUALITY and self.op in (">=", ">")
        return Gate(self.text, row.name, passed, value, limit, self.ci95, lost_most(row) if blames else None)


def _value(row: Judged, metric: str) -> float | None:
    is_old = isinstance(row, Row) and row.kept and timed.of_the_moment(metric)
    value = None if is_old else row.value(metric)
    return None if value is None else float(value)


def parse_rules(texts: Sequence[str], *, has_baseline: bool, ci95: bool = False) -> list[Rule]:
    """Read every rule; UsageError where one is not understood, or needs a baseline and there is none.

    With `ci95` (`--gate-ci`) rules on figures that a sample of questions gives demand their interval; UsageError
    for one that has none.
    """
    if ci95 and not texts:
        raise UsageError("--gate-ci says how gates are held, and there is none; give a --gate")
    rules = [parse(text) for text in texts]
    for rule in rules:
        if any(each.kind != "absolute" for each in timed.all_of(rule)) and not has_baseline:
            raise UsageError(f"--gate {rule.text!r} compares with a baseline; name it with --baseline")
    return [_on_its_interval(rule) for rule in rules] if ci95 else rules


def _on_its_interval(rule: Rule) -> Rule:
    """A rule that demands the interval of its figure, where that is sampled; UsageError where it has none."""
    figure = figure_of(rule.metric)
    if figure is None or not figure.sampled:
        return rule
    if figure.interval is None:
        known = ", ".join(name for name, figure in _FAIR.items() if figure.sampled and figure.interval is not None)
        raise UsageError(f"--gate-ci: {rule.metric} has no interval; gate one of {known}")
    second = None if rule.otherwise is None else _on_its_interval(rule.otherwise)
    return replace(rule, ci95=True, otherwise=second)


def parse(text: str) -> Rule:
    """Read `METRIC OP VALUE`; UsageError where a part is not understood.

    METRIC is a key of a row or a short name (em, f1, size, memory, latency); VALUE a number, one with a unit (300MB,
    20ms), one relative to the baseline (0.3x), or an offset from it (base-1.0). em[KEY=VALUE] is that of one slice.
    After a bar there may be another VALUE (1.1x|+2ms, where the sign alone is an offset): the rule holds where either
    does.
    """
    rule = _RULE.fullmatch(text.strip())
    if rule is None:
        raise UsageError(f"--gate {text!r} is not a rule; write METRIC OP VALUE, such as 'em>=base-1' or 'size<=0.3x'")
    first, bar, second = rule["value"].partition("|")
    if bar:
        return _with_alternative(parse(rule.string[: rule.start("value")] + first), second.strip(), text)
    metric = _BY_SHORT_NAME.get(rule["metric"], rule["metric"])
    part = None if rule["part"] is None else slice_name(rule["part"], text)
    if part is not None and metric not in GATED:
        raise UsageError(f"--gate {text!r}: slices have no figure {rule['metric']!r}; take {' or '.join(GATED)}")
    figure = figure_of(metric)
    if figure is None:
        raise UsageError(f"--gate {text!r}: there is no figure {rule['metric']!r}; take one of {', '.join(_NAMES)}")
    if figure.unfair is not None:
        raise UsageError(f"--gate {text!r}: {metric} {figure.unfair}")
    value = _VALUE.fullmatch(rule["value"].strip())
    if value is None or (value["number"] is None) != (value["sign"] is None and value["base"] is not None):
        raise UsageError(f"--gate {text!r}: {rule['value']!r} is not a limit; write 80, 300MB, 20ms, 0.3x or base-1.0")
    number, unit = float(value["number"] or 0), value["unit"]
    if figure.unit is POINTS and (value["base"] is not None or unit == "x"):
        raise UsageError(f"--gate {text!r}: {metric} is a difference from the baseline already; give a plain number")
    if value["base"] is not None:
        sign = -1 if value["sign"] == "-" else 1
        return Rule(text, metric, rule["op"], sign * number * _scale(text, metric, figure, unit), "offset", part=part)
    if unit == "x":
        return Rule(text, metric, rule["op"], number, "ratio", part=part)
    return Rule(text, metric, rule["op"], number * _scale(text, metric, figure, unit), "absolute", part=part)


def _with_alternative(rule: Rule, value: str, text: str) -> Rule:
    sign = "base" if value.startswith(("+", "-")) else ""
    second = replace(parse(f"{rule.metric}{rule.op}{sign}{value}"), text=text, part=rule.part)
    return replace(rule, text=text, otherwise=second)


def _scale(text: str, metric: str, figure: Figure, unit: str) -> float:
    """What one `unit` is in the figure's own unit; UsageError where it is none of its units."""
    units = figure.unit.suffixes
    if unit and unit not in units:
        allowed = f"use {', '.join(units)}" if units else "it has none"
        raise UsageError(f"--gate {text!r}: {unit!r} is not a unit of {metric}; {allowed}")
    return units.get(unit, 1.0)


def gated(report: Report, rules: Sequence[Rule]) -> Report:
    """The report with a verdict for each rule on each row but the baseline, which others are held against.

    Of several baselines (the same checkpoint on several machines) the one of the row's own device counts, else the
    first. Raises UsageError where there is a rule and no row to hold it: a gate that nothing passed has not held.
    """
    judged = [row for row in report.rows if not row.baseline]
    if rules and not judged:
        raise UsageError(f"--gate {rules[0].text!r} has no row to judge but the baseline; name another checkpoint")
    baselines = [row for row in report.rows if row.baseline]
    gates = tuple(rule.verdict(row, _baseline_of(row, baselines)) for rule in rules for row in judged)
    return replace(report, gates=gates, passed=all(gate.passed for gate in gates))


def _baseline_of(row: Row, baselines: Sequence[Row]) -> Row | None:
    near = [base for base in baselines if base.device == row.device]
    return next(iter([*near, *baselines]), None)


def explain(gate: Gate) -> str:
    """A verdict as one phrase: the rule, the row, its figure and the limit."""
    value, limit = _written(gate)
    if gate.value is None and gate.ci95:
        value = "no interval"
    which = "end of the 95 % interval " if gate.ci95 and gate.value is not None else ""
    turns = "" if gate.spread is None else f"; measured in turns, spread {100 * gate.spread:.1f} %"
    turns += "; more --rounds or a quieter machine may tell" if turns and gate.verdict == "undecided" else ""
    said = _SAID[gate.verdict or ("holds" if gate.passed else "fails")]
    told = f"{gate.rule} {said} for {gate.row} ({which}{value}, limit {limit}{turns})"
    return told if gate.lost_most is None else f"{told}: {gate.lost_most}"


_SAID = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}


def _written(gate: Gate) -> tuple[str, str]:
    """A figure and its limit in the figure's unit, with all digits where fewer would make them look the same."""
    rule = _RULE.fullmatch(gate.rule.strip())
    name = rule["metric"] if rule is not None else ""
    figure = figure_of(_BY_SHORT_NAME.get(name, name))
    short = figure.unit.alone if figure is not None else _all_digits
    plain, rounded = ([_or_missing(each, write) for each in (gate.value, gate.limit)] for write in (_all_digits, short))
    found = plain if gate.value != gate.limit and rounded[0] == rounded[1] else rounded
    return found[0], found[1]


def _all_digits(value: float) -> str:
    return f"{value:.10g}"


def _or_missing(value: float | None, write: Callable[[float], str]) -> str:
    return "not measured" if value is None else write(value)
