"""Gates on what depends on the moment, time and memory: which ask for a measurement now, and what a median in turns is.

A rule that compares such a figure with the baseline's is judged by what was measured in turns, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from compresskit.errors import UsageError
from compresskit.evaluate.figures import Group
from compresskit.evaluate.missing import NOT_SCORED
from compresskit.evaluate.ratio import RATIOS, held, middle_and_spread, upon_baseline
from compresskit.evaluate.row import Gate, Verdict, figure_of
from compresskit.evaluate.shard import Shard
from compresskit.evaluate.turns import ROUNDS, Plan

if TYPE_CHECKING:
    from compresskit.evaluate.gate import Rule
    from compresskit.evaluate.row import Row

LEAST_ROUNDS = 2
"""One round tells nothing of how much rounds differ."""


def of_the_moment(metric: str) -> bool:
    """Whether a figure is another one whenever it is measured: time or memory."""
    figure = figure_of(metric)
    return figure is not None and figure.group in (Group.MEMORY, Group.SPEED)


def is_in_turns(rule: Rule) -> bool:
    """Whether a rule compares time or memory with the baseline's."""
    return rule.kind != "absolute" and of_the_moment(rule.metric)


def all_of(*rules: Rule) -> Iterator[Rule]:
    """The rules, each with its alternative behind it."""
    for rule in rules:
        yield rule
        if rule.otherwise is not None:
            yield from all_of(rule.otherwise)


def needs_new_rows(rules: Sequence[Rule]) -> bool:
    """Whether a rule holds time or memory against a plain number: figures of an earlier call are never judged."""
    return any(rule.kind == "absolute" and of_the_moment(rule.metric) for rule in all_of(*rules))


def plan_of(rules: Sequence[Rule], rounds: int | None) -> Plan | None:
    """What is to be measured in turns: what rules compare, and with `--rounds` what it shows; None for nothing.

    Raises UsageError where the processes of a launcher would have to take turns.
    """
    figures = {rule.metric for rule in all_of(*rules) if is_in_turns(rule)}
    if rounds is not None:
        figures |= {RATIOS["latency_ratio"], RATIOS["rate_ratio"]}
    if not figures:
        return None
    if Shard.from_environment().world > 1:
        asked = f"a gate on {sorted(figures)[0]} relative to the baseline" if rounds is None else f"--rounds {rounds}"
        raise UsageError(f"{asked} measures in turns, as one process can; start without a launcher, or leave it out")
    return Plan(rounds or ROUNDS, frozenset(figures))


def judged(rule: Rule, row: Row, compare: Callable[[float, float], bool]) -> Gate:
    """The verdict of a rule on what was measured in turns; where nothing was, or in one round alone, it fails."""
    values, base = upon_baseline(row.turns.get(rule.metric, ()), offset=rule.kind == "offset")
    if base is None or len(values) < LEAST_ROUNDS:
        reason = "measured in one round alone" if values else "not measured in turns with the baseline"
        reason = reason if row.error is None else NOT_SCORED
        return Gate(rule.text, row.name, False, None, None, verdict="fails", reason=reason)
    limit = base * rule.number if rule.kind == "ratio" else base + rule.number
    middle, around = middle_and_spread(values)
    holds = held(middle, around, limit, compare)
    verdict: Verdict = "undecided" if holds is None else "holds" if holds else "fails"
    return Gate(rule.text, row.name, bool(holds), middle, limit, spread=around, verdict=verdict)


def either(rule: Rule, first: Gate, second: Gate) -> Gate:
    """The verdict of a rule with an alternative: that of the one that holds, else of one that cannot tell."""
    known = {gate.verdict: gate for gate in (second, first)}
    return replace(known.get("holds") or known.get("undecided") or first, rule=rule.text)
