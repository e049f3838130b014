"""The gates that a report has reason for: of several rows the weakest limit, each seen to hold and to fail."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compresskit.errors import InputError, UsageError
from compresskit.evaluate.derive.costs import COSTS, cost_of, weakest
from compresskit.evaluate.derive.quality import UNANSWERABLE, Limit, Quality, limit_of, qualities
from compresskit.evaluate.derive.source import Source
from compresskit.evaluate.gate import Rule, explain, gated, parse
from compresskit.evaluate.prove import beside, proof_of, with_figure
from compresskit.evaluate.row import Gate, Row, figure_of
from compresskit.evaluate.slice import Slice
from compresskit.evaluate.timed import is_in_turns
from compresskit.evaluate.turns import ROUNDS
from compresskit.evaluate.units import per_cent

_STEP = 0.01  # points; offsets are rounded down to such


@dataclass(frozen=True, slots=True)
class Proposal:
    """A gate as a rule says it, and the reason for its limit in sentences."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proposed:
    """The gates of a report, and for what there is none and why; `sure` is the probability of each by itself."""

    source: Source
    sure: float
    gates: tuple[Proposal, ...]
    left_out: tuple[str, ...]


def propose(source: Source, sure: float) -> Proposed:
    """The gates that all rows of the source hold; InputError where there is none."""
    gates: list[Proposal] = []
    left_out: list[str] = []
    for found in [*_of_quality(source, sure), *_of_costs(source, sure)]:
        if isinstance(found, str):
            left_out.append(found)
        else:
            gates.append(found)
    if not gates:
        raise InputError(f"no gate can be derived: {'; '.join(left_out)}")
    return Proposed(source, sure, tuple(gates), tuple(left_out))


def _of_quality(source: Source, sure: float) -> Iterator[Proposal | str]:
    proposed: list[str] = []
    for quality in qualities(source):
        found = [limit_of(quality, row, source, sure) for row in source.rows]
        limits = [each for each in found if isinstance(each, Limit)]
        if len(limits) < len(found):
            yield f"{quality.stem}: {next(each for each in found if isinstance(each, str))}"
            continue
        limit = min(limits, key=lambda each: each.offset)
        offset = math.floor(limit.offset / _STEP + 1e-6) * _STEP
        rule = f"{quality.stem}>=base" + (f"{offset:+.2f}" if abs(offset) >= _STEP / 2 else "")
        if (problem := _held_by_nothing(quality, rule, source, proposed) or _problem(rule, source)) is not None:
            yield f"{quality.stem}: {problem}"
            continue
        proposed.append(quality.stem)
        yield Proposal(rule, _of_rows(limit.reason, source) + _told_of_nothing(quality))


def _held_by_nothing(quality: Quality, rule: str, source: Source, proposed: Sequence[str]) -> str | None:
    """Why a gate would be held by answering nothing, alone or with those that were proposed; None where it is not."""
    score, base = quality.of_nothing(source), quality.of(source.baseline)
    limit = parse(rule).limit(base)
    if score is None:
        return None if "em" in proposed or "em[answerable=yes]" in proposed else "answering nothing holds it"
    if limit is None or score < limit:
        return None
    most = "" if quality.part is None else "may have as much as "
    return f"a limit of {per_cent(limit)} is no gate, for answering nothing at all has {most}{per_cent(score)}"


def _told_of_nothing(quality: Quality) -> str:
    if quality.part != UNANSWERABLE:
        return ""
    return " Answering nothing holds this gate, and fails those on the questions that have an answer."


def _of_costs(source: Source, sure: float) -> Iterator[Proposal | str]:
    for cost in COSTS:
        found = [cost_of(cost, row, source, sure) for row in source.rows]
        if missing := [each for each in found if isinstance(each, str)]:
            yield f"{cost.stem}: {missing[0]}"
            continue
        limit = weakest([each for each in found if not isinstance(each, str)])
        rule = f"{cost.stem}<={_up(limit.ratio)}x"
        problem = _problem(rule, source)
        yield f"{cost.stem}: {problem}" if problem is not None else Proposal(rule, _of_rows(limit.reason, source))


def _up(ratio: float) -> str:
    """A ratio rounded up to three digits."""
    digits = max(3, 3 - math.ceil(math.log10(ratio))) if ratio > 0 else 3
    return f"{math.ceil(ratio * 10**digits - 1e-6) / 10**digits:.{digits}f}"


def _of_rows(reason: str, source: Source) -> str:
    return reason if len(source.rows) == 1 else f"The weakest of {len(source.rows)} rows. {reason}"


def _problem(text: str, source: Source) -> str | None:
    """Why a rule is no gate: a row of the report does not hold it, or it cannot fail; None where it is one."""
    try:
        rule = parse(text)
    except UsageError as error:
        return str(error)
    for row in source.rows:
        gate = _gate(rule, row, source)
        if not gate.passed:
            return f"the report itself does not hold what its figures allow: {explain(gate)}"
        proof = proof_of([_gate(rule, each, source) for each in _beside(rule, gate, row, source)])
        if proof.problem is not None:
            return f"{text} {proof.problem}"
    return None


def _gate(rule: Rule, row: Row, source: Source) -> Gate:
    """A rule's verdict on a row, as `eval` comes to it."""
    (gate,) = gated(replace(source.report, rows=(source.baseline, row)), [rule]).gates
    return gate


def _beside(rule: Rule, gate: Gate, row: Row, source: Source) -> list[Row]:
    """The row with a figure just above the limit, and with one just below (see `compresskit.evaluate.prove`)."""
    figure = figure_of(rule.metric)
    assert figure is not None  # the rule was read by it
    assert gate.limit is not None  # the gate has passed
    return [_with(row, rule, value, source) for value in beside(gate.limit, figure.unit)]


def _with(row: Row, rule: Rule, value: float, source: Source) -> Row:
    if is_in_turns(rule):
        base = row.turns[rule.metric][0][1]
        return replace(row, turns={rule.metric: [[value, base]] * ROUNDS})
    if rule.part is None:
        return with_figure(row, rule.metric, value)
    own = rule.part.of(row.slices)
    base_value = own.of_baseline.value(rule.metric) or 0.0
    changes: dict[str, Any] = {rule.metric: value, f"delta_{rule.metric}": value - base_value}
    made: Slice = replace(own, **changes)
    slices = {**(row.slices or {}), rule.part.key: {**(row.slices or {})[rule.part.key], rule.part.value or "": made}}
    return replace(row, slices=slices)
