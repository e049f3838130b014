"""The verdicts of gates in lines: many that say the same of a rule are one line, with all names."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from compresskit.evaluate.gate import explain, written
from compresskit.evaluate.row import Gate

_FEW = 2
"""As many verdicts of one kind still have a line each."""


@dataclass(frozen=True, slots=True)
class GateLine:
    """One line on gates of the same rule and verdict; `gate` is the first of them."""

    gate: Gate
    text: str


def gate_lines(gates: Sequence[Gate]) -> list[GateLine]:
    """A line for each verdict, those that say the same in one; in the order of the first of each."""
    return [line for alike in groups(gates) for line in _lines(alike)]


def groups(gates: Sequence[Gate]) -> list[list[Gate]]:
    """The gates, those together that say the same of a rule but for names and figures; alone what says more."""
    found: dict[Hashable, list[Gate]] = {}
    for number, gate in enumerate(gates):
        found.setdefault(_kind(gate) or number, []).append(gate)
    return list(found.values())


def _kind(gate: Gate) -> Hashable:
    """What gates have in common that share a line; None for one that has more to say than a figure."""
    if gate.value is None:
        return gate.rule, gate.verdict, gate.passed, gate.limit, gate.reason
    is_plain = gate.verdict == "holds" and gate.passed and gate.reason is None
    return (gate.rule, gate.limit, gate.ci95, gate.spread is None) if is_plain else None


def _lines(alike: Sequence[Gate]) -> list[GateLine]:
    first = alike[0]
    if len(alike) <= _FEW:
        return [GateLine(gate, explain(gate)) for gate in alike]
    if first.value is None:
        return [GateLine(first, explain(replace(first, row=", ".join(gate.row for gate in alike))))]
    how = ", ends of 95 % intervals" if first.ci95 else ""
    how += "" if first.spread is None else ", measured in turns, with spread"
    names = ", ".join(f"{gate.row} {_figure(gate)}" for gate in alike)
    return [
        GateLine(first, f"{first.rule} holds for {len(alike)} checkpoints (limit {written(first)[1]}{how}): {names}")
    ]


def _figure(gate: Gate) -> str:
    spread = "" if gate.spread is None else f" ± {100 * gate.spread:.1f} %"
    return written(gate)[0] + spread
