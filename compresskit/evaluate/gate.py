"""Gates: rules such as `em>=base-1` or `size<=0.3x` that a row of a report holds or fails."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from compresskit.errors import InputError, UsageError
from compresskit.evaluate import nothing, timed
from compresskit.evaluate.delivery import GateOptions
from compresskit.evaluate.figures import ASKED, BLIND, Figure
from compresskit.evaluate.missing import NOT_SCORED, why_missing
from compresskit.evaluate.row import FIGURES, Dataset, Gate, Interval, Report, Row, figure_of
from compresskit.evaluate.runs import with_runs
from compresskit.evaluate.slice import GATED, Slice, SliceName, slice_name
from compresskit.evaluate.slices import lost_most
from compresskit.evaluate.undecided import weighed
from compresskit.evaluate.units import PER_CENT

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
_OF_BASELINE = "baseline."
_WORST = "@worst"
_PLAIN = GateOptions()
# What a rule can name, as a message lists it: the short names stand behind EM and F1.
_NAMES: Sequence[str] = tuple(dict.fromkeys(["em", "f1", *_BY_SHORT_NAME, *_FAIR, *ASKED, *BLIND]))
_QUALITY = ("em", "f1", "delta_em", "delta_f1")

Judged = Row | Slice
"""What has figures that a rule can be about."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`metric op limit`: the limit is `number`, `number` times the baseline's figure, or that figure plus it.

    `text` is the rule as the user wrote it; `metric` is a key of `Row`, or a name among its `metrics`. With `ci95` the
    worse end of the figure's 95 % interval has to hold the rule. With `of_baseline` it is the baseline that has to.
    `part` is the slice whose figures count, None for all. Where a rule does not hold, `otherwise` may. With `worst`
    each run of a mean is judged, and the worst counts; a row without runs is its own worst.
    """

    text: str
    metric: str
    op: str
    number: float
    kind: Literal["absolute", "ratio", "offset"]
    ci95: bool = False
    of_baseline: bool = False
    part: SliceName | None = None
    otherwise: Rule | None = None
    worst: bool = False

    @property
    def is_relative(self) -> bool:
        """Whether it compares with the baseline: by its limit, or by a figure that is a comparison itself."""
        figure = FIGURES.get(self.metric)
        return self.kind != "absolute" or (figure is not None and figure.paired)

    def limit(self, baseline: Judged | None) -> float | None:
        """The limit in the metric's own unit; None where the baseline's figure is needed but not there."""
        if self.kind == "absolute":
            return self.number
        base = None if baseline is None else _value(baseline, self.metric)
        if base is None:
            return None
        return base * self.number if self.kind == "ratio" else base + self.number

    def interval(self, row: Judged, baseline: Judged | None) -> Interval | None:
        """The 95 % interval of the row's figure; None where it has none, or its figure is not sampled.

        A rule relative to the baseline takes that of the paired difference, put upon the baseline's figure, as far as
        the figure can go.
        """
        figure = FIGURES.get(self.metric)
        if figure is None or not figure.sampled:
            return None
        if self.kind == "absolute":
            return row.interval(figure)
        found = None if figure.difference is None else row.interval(FIGURES[figure.difference])
        shift = None if baseline is None else _value(baseline, self.metric)
        if self.worst and figure.difference is not None:  # a run may be compared with the baseline's of its seed
            own, less = _value(row, self.metric), _value(row, figure.difference)
            shift = None if own is None or less is None else own - less
        if found is None or shift is None:
            return None
        low, high = (0.0, 100.0) if figure.unit is PER_CENT else (-math.inf, math.inf)
        return max(low, shift + found[0]), min(high, shift + found[1])

    def value(self, row: Judged, baseline: Judged | None) -> float | None:
        """The figure that is held against the limit, with `ci95` the worse end of its interval; None without one."""
        if not self.ci95:
            return _value(row, self.metric)
        interval = self.interval(row, baseline)
        return None if interval is None else interval[0 if self.op in (">=", ">") else 1]

    def verdict(self, row: Row, baseline: Row | None, dataset: Dataset, options: GateOptions = _PLAIN) -> Gate:
        """Whether `row` holds the rule; a figure or a limit that was not measured fails.

        So does a rule relative to a baseline that does not beat answering nothing, or whose limit does not.
        """
        if self.worst and row.runs is not None:
            gate = worst([self.verdict(run, baseline, dataset, options) for run in row.runs], self.op)
            return replace(gate, row=row.name, run=gate.row)
        judge = self._in_turns if timed.is_in_turns(self) else self._plain
        gate = judge(row, baseline, dataset, options)
        if gate.undecided:
            gate = replace(gate, passed=options.undecided == "pass")
        if self.otherwise is None:
            return gate
        return timed.either(self, gate, self.otherwise.verdict(row, baseline, dataset, options))

    def _in_turns(self, row: Row, baseline: Row | None, dataset: Dataset, options: GateOptions) -> Gate:
        gate = timed.judged(self, row, OPERATORS[self.op])
        refusal = None if gate.limit is None else self._refusal(baseline, gate.limit, dataset, options)
        return gate if refusal is None else replace(gate, passed=False, verdict="fails", reason=refusal)

    def _plain(self, row: Row, baseline: Row | None, dataset: Dataset, options: GateOptions) -> Gate:
        own: Judged = row if self.part is None else self.part.of(row.slices)
        base: Judged | None = own.of_baseline if isinstance(own, Slice) else baseline
        value, limit, point = self.value(own, base), self.limit(base), _value(own, self.metric)
        failed = Gate(self.text, row.name, False, value, limit, self.ci95)
        if limit is None or value is None or point is None:
            return replace(failed, reason=why_missing(self, row, baseline, own, limit))
        if refusal := self._refusal(baseline, limit, dataset, options):
            return replace(failed, reason=refusal)
        holds, interval = OPERATORS[self.op], self.interval(own, base)
        blamed = lost_most(row) if self._blames and not holds(value, limit) else None
        plain = Gate(self.text, row.name, holds(value, limit), value, limit, self.ci95, blamed)
        is_slice = isinstance(own, Slice)
        questions = own.questions if isinstance(own, Slice) else dataset.questions
        has_runs = row.runs is not None or (self.is_relative and baseline is not None and baseline.runs is not None)
        gate = weighed(plain, holds, point, interval, questions, is_slice=is_slice, has_runs=has_runs)
        return gate if gate.reason else replace(gate, reason=self._held_anyway(None, limit, dataset))

    @property
    def _blames(self) -> bool:
        """Whether the slice that lost most has to do with it where the rule fails."""
        return self.part is None and not self.of_baseline and self.metric in _QUALITY and self.op in (">=", ">")

    def _refusal(self, baseline: Row | None, limit: float, dataset: Dataset, options: GateOptions) -> str | None:
        """Why a comparison with the baseline is none; None where it is one."""
        if baseline is None or not self.is_relative:
            return None
        if baseline.beats_nothing is False:
            return None if options.allow_weak_baseline else nothing.weak(baseline)
        reason = self._held_anyway(baseline, limit, dataset)
        return None if reason is None else f"{reason}; set a limit above that"

    def _held_anyway(self, baseline: Row | None, limit: float, dataset: Dataset) -> str | None:
        """Why a rule that wants much holds whatever was compressed: answering nothing has it, or every figure has.

        Of a slice, what answering nothing has is not known.
        """
        if self.op not in (">=", ">"):
            return None
        score = None if self.part is not None else nothing.score_of(self.metric, dataset.scores_of_nothing, baseline)
        if score is not None and OPERATORS[self.op](score, limit):
            return nothing.held_by_nothing(score)
        figure = figure_of(self.metric)
        is_share = figure is not None and figure.unit is PER_CENT
        return nothing.HELD_BY_ZERO if is_share and OPERATORS[self.op](0.0, limit) else None


def _value(row: Judged, metric: str) -> float | None:
    is_old = isinstance(row, Row) and row.kept and timed.of_the_moment(metric)
    value = None if is_old else row.value(metric)
    return None if value is None else float(value)


def worst(gates: Sequence[Gate], op: str) -> Gate:
    """The worst of the verdicts of one rule: that fails before one that is undecided, then the one nearest to failing.

    A figure that was not measured is worse than any.
    """
    sign = 1.0 if op in (">=", ">") else -1.0

    def rank(gate: Gate) -> tuple[bool, int, float]:
        known = gate.value is not None and gate.limit is not None
        room = sign * ((gate.value or 0.0) - (gate.limit or 0.0)) if known else -math.inf
        return gate.passed, ("fails", "undecided", "holds").index(gate.verdict), room

    return min(gates, key=rank)


def parse_rules(texts: Sequence[str], *, has_baseline: bool, ci95: bool = False) -> list[Rule]:
    """Read every rule; UsageError where one is not understood, or needs a baseline and there is none.

    With `ci95` (`--gate-ci`) rules on figures that a sample of questions gives demand their interval; UsageError
    for one that has none.
    """
    if ci95 and not texts:
        raise UsageError("--gate-ci says how gates are held, and there is none; give a --gate")
    rules = [parse(text) for text in texts]
    for rule in rules:
        if (rule.of_baseline or any(each.is_relative for each in timed.all_of(rule))) and not has_baseline:
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
    20ms), one relative to the baseline (0.3x), or an offset from it (base-1.0). em[KEY=VALUE] is that of one slice,
    `baseline.METRIC` the baseline's own figure. After a bar there may be another VALUE (1.1x|+2ms, where the sign alone
    is an offset): the rule holds where either does. `@worst` at the end judges the worst run of a mean.
    """
    rule = _RULE.fullmatch(text.strip())
    if rule is None:
        raise UsageError(f"--gate {text!r} is not a rule; write METRIC OP VALUE, such as 'em>=base-1' or 'size<=0.3x'")
    limits, at, which = rule["value"].partition("@")
    if at:
        if which.strip() != "worst" or not limits.strip():
            raise UsageError(
                f"--gate {text!r}: '@{which.strip()}' is not known; write {_WORST}, or nothing for the mean"
            )
        return replace(_with_worst(parse(rule.string[: rule.start("value")] + limits)), text=text)
    first, bar, second = rule["value"].partition("|")
    if bar:
        if not first.strip() or not second.strip():
            raise UsageError(f"--gate {text!r}: a limit stands on each side of the bar, such as 'latency<=1.1x|+2ms'")
        return _with_alternative(parse(rule.string[: rule.start("value")] + first), second.strip(), text)
    name, of_baseline = _named(rule["metric"])
    metric = _BY_SHORT_NAME.get(name, name)
    part = None if rule["part"] is None else slice_name(rule["part"], text)
    if part is not None and metric not in GATED:
        raise UsageError(f"--gate {text!r}: slices have no figure {name!r}; take {' or '.join(GATED)}")
    figure = figure_of(metric)
    if figure is None:
        raise UsageError(f"--gate {text!r}: there is no figure {name!r}; take one of {', '.join(_NAMES)}")
    if figure.unfair is not None:
        raise UsageError(f"--gate {text!r}: {metric} {figure.unfair}")
    value = _VALUE.fullmatch(rule["value"].strip())
    if value is None or (value["number"] is None) != (value["sign"] is None and value["base"] is not None):
        raise UsageError(f"--gate {text!r}: {rule['value']!r} is not a limit; write 80, 300MB, 20ms, 0.3x or base-1.0")
    number, unit = float(value["number"] or 0), value["unit"]
    is_relative = value["base"] is not None or unit == "x"
    if of_baseline and (is_relative or figure.paired):
        raise UsageError(f"--gate {text!r} compares the baseline with itself; give a figure of its own, and a number")
    if figure.paired and is_relative:
        raise UsageError(f"--gate {text!r}: {metric} is a difference from the baseline already; give a plain number")
    if value["base"] is not None:
        sign = -1 if value["sign"] == "-" else 1
        return Rule(text, metric, rule["op"], sign * number * _scale(text, metric, figure, unit), "offset", part=part)
    if unit == "x":
        return Rule(text, metric, rule["op"], number, "ratio", part=part)
    number *= _scale(text, metric, figure, unit)
    return Rule(text, metric, rule["op"], number, "absolute", of_baseline=of_baseline, part=part)


def _named(metric: str) -> tuple[str, bool]:
    """The figure that a rule names, and whether it is the baseline's own."""
    return metric.removeprefix(_OF_BASELINE), metric.startswith(_OF_BASELINE)


def _with_worst(rule: Rule) -> Rule:
    """The rule, and its alternative where it has one, for the worst run."""
    return replace(rule, worst=True, otherwise=None if rule.otherwise is None else _with_worst(rule.otherwise))


def _with_alternative(rule: Rule, value: str, text: str) -> Rule:
    """A rule that may hold by another limit, `value`; UsageError where that is none."""
    sign = "base" if value.startswith(("+", "-")) else ""
    of = _OF_BASELINE if rule.of_baseline else ""
    second = replace(parse(f"{of}{rule.metric}{rule.op}{sign}{value}"), text=text, part=rule.part)
    return replace(rule, text=text, otherwise=second)


def _scale(text: str, metric: str, figure: Figure, unit: str) -> float:
    """What one `unit` is in the figure's own unit; UsageError where it is none of its units."""
    units = figure.unit.suffixes
    if unit and unit not in units:
        allowed = f"use {', '.join(units)}" if units else "it has none"
        raise UsageError(f"--gate {text!r}: {unit!r} is not a unit of {metric}; {allowed}")
    return units.get(unit, 1.0)


def gated(report: Report, rules: Sequence[Rule], options: GateOptions = _PLAIN) -> Report:
    """The report with a verdict for each rule on each row but the baseline, which others are held against.

    Of several baselines (the same checkpoint on several machines) the one of the row's own device counts, else the
    first. `options` say what passes although it is not sure. Raises UsageError where there is a rule and no row to hold
    it (`check_judged`), InputError where no question was asked: a gate that nothing passed has not held.
    """
    if rules and not report.dataset.questions:
        raise InputError(f"{report.dataset.path}: no question was asked, so no gate can hold; give data with questions")
    baselines = [row for row in report.rows if row.baseline]
    others = [row for row in report.rows if not row.baseline]
    check_judged(rules, has_others=bool(others))
    gates: list[Gate] = []
    for rule in rules:
        judged = baselines if rule.of_baseline else others
        found = [rule.verdict(row, _baseline_of(row, baselines), report.dataset, options) for row in judged]
        is_known = any(row.value(rule.metric) is not None for row in with_runs(judged))
        gates += found if is_known else [_told_unknown(gate, rule.metric) for gate in found]
    is_whole = all(row.error is None for row in report.rows)
    return replace(report, gates=tuple(gates), passed=is_whole and all(gate.passed for gate in gates))


def check_judged(rules: Sequence[Rule], *, has_others: bool) -> None:
    """UsageError where a rule is to hold for every row but the baseline, and there is no other."""
    for rule in rules:
        if not rule.of_baseline and not has_others:
            raise UsageError(f"--gate {rule.text!r} has no row to judge but the baseline; name another checkpoint")


def check_asked(rules: Sequence[Rule], metrics: Sequence[str], harness: Sequence[str]) -> None:
    """UsageError for a rule on a figure that no row will have, since neither `metrics` nor `harness` asks for it."""
    for rule in rules:
        by_name = rule.metric in ASKED or rule.metric in BLIND
        is_asked = any(rule.metric.startswith(name) for name in metrics) if by_name else bool(harness)
        if not is_asked and (flag := _asked_by(rule.metric)):
            raise UsageError(f"--gate {rule.text!r}: no row will have {rule.metric}; ask for it with {flag}")


def _asked_by(metric: str) -> str:
    """The option that asks for a figure; "" where rows have it unasked."""
    if metric in BLIND:
        return "--blind"
    return "--metrics" if metric in ASKED else "--harness" if "/" in metric else ""


def _told_unknown(gate: Gate, metric: str) -> Gate:
    """The verdict on a figure that no row has, with the reason."""
    if gate.reason == NOT_SCORED:
        return gate
    mend = f"ask for it with {flag}" if (flag := _asked_by(metric)) else "gate what these checkpoints have"
    return replace(gate, reason=f"no row has {metric}; {mend}")


def _baseline_of(row: Row, baselines: Sequence[Row]) -> Row | None:
    near = [base for base in baselines if base.device == row.device]
    return next(iter([*near, *baselines]), None)


def explain(gate: Gate) -> str:
    """A verdict as one phrase: the rule, the row, its figure and the limit."""
    value, limit = written(gate)
    if gate.value is None and gate.ci95:
        value = "no interval"
    which = "end of the 95 % interval " if gate.ci95 and gate.value is not None else ""
    said = "is undecided" if gate.undecided else gate.verdict
    reason = f"; {gate.reason}" if gate.reason else ""
    if gate.spread is not None:
        reason += f"; measured in turns, spread {100 * gate.spread:.1f} %"
        reason += "; more --rounds or a quieter machine may tell" if gate.undecided else ""
    run = f"{gate.run}: " if gate.run is not None else ""
    told = f"{gate.rule} {said} for {gate.row} ({run}{which}{value}, limit {limit}{reason})"
    return told if gate.lost_most is None else f"{told}: {gate.lost_most}"


def written(gate: Gate) -> tuple[str, str]:
    """A figure and its limit in their unit, with all digits where fewer would make them look the same."""
    rule = _RULE.fullmatch(gate.rule.strip())
    name = _named(rule["metric"])[0] if rule is not None else ""
    figure = figure_of(_BY_SHORT_NAME.get(name, name))
    short = figure.unit.alone if figure is not None else _all_digits
    whole = figure.unit.all_digits if figure is not None else _all_digits
    plain, rounded = ([_or_missing(each, write) for each in (gate.value, gate.limit)] for write in (whole, short))
    found = plain if gate.value != gate.limit and rounded[0] == rounded[1] else rounded
    return found[0], found[1]


def _all_digits(value: float) -> str:
    return f"{value:.10g}"


def _or_missing(value: float | None, write: Callable[[float], str]) -> str:
    return "not measured" if value is None else write(value)
