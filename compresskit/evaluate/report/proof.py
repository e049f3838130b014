"""What `eval --prove-gates` prints: each rule with a figure just above its limit, one just below, and both verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresskit.evaluate.gate import written
from compresskit.evaluate.prove import Proof, Proven
from compresskit.evaluate.row import Gate
from compresskit.evaluate.units import UNMEASURED
from compresskit.text import printable, to_json

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(proven: Proven, name: str) -> RenderableType:
    """The proofs as JSON where `name` is "json", else as a table."""
    return _json(proven) if name == "json" else _table(proven)


def _json(proven: Proven) -> str:
    """One object: the proofs, the baseline in words, and whether all are proven."""
    proofs = [
        {"rule": each.rule, "above": each.above.to_dict(), "below": each.below.to_dict(), "problem": each.problem}
        for each in proven.proofs
    ]
    is_proven = all(each.problem is None for each in proven.proofs)
    return to_json({"proofs": proofs, "baseline": proven.baseline, "proven": is_proven}, indent=2)


def _table(proven: Proven) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Rule", overflow="fold")
    table.add_column("Limit", justify="right")
    for side in ("Just above", "Just below"):
        table.add_column(side, justify="right")
        table.add_column("Verdict")
    table.add_column("Proven")
    for proof in proven.proofs:
        table.add_row(*(Text(printable(cell)) for cell in _cells(proof)))
    notes = ["rows are made up: gold answers, damaged one by one, or a figure beside the limit; no model was run"]
    if proven.baseline is not None:
        notes.append(f"the baseline is {proven.baseline}")
    lines = [Text(printable(note), style="dim") for note in notes]
    problems = [Text(printable(f"{each.rule} {each.problem}"), style="red") for each in proven.proofs if each.problem]
    return Group(table, *lines, *problems)


def _cells(proof: Proof) -> list[str]:
    above, limit = written(proof.above)
    below, _ = written(proof.below)
    if proof.above.limit is None:
        above = below = UNMEASURED
    short = "yes" if proof.problem is None else proof.problem.partition(":")[0]
    return [proof.rule, limit, above, _verdict(proof.above), below, _verdict(proof.below), short]


def _verdict(gate: Gate) -> str:
    """What the data say, and what became of it where that is not the same."""
    return f"{gate.verdict} (passes)" if gate.undecided and gate.passed else gate.verdict
