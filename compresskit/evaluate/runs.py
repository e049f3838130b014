"""Checkpoints that are runs of one: what is told of them on the command line, and what each row is compared with.

A run is a checkpoint that was made with one of several seeds. Runs of two rows are pairs where both rows have the same
seeds: then each is compared with the run of its own seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compresskit.errors import UsageError

if TYPE_CHECKING:
    from compresskit.evaluate.row import Row

# The first words of methods that do not learn: how their seed is drawn with says nothing of the run.
_LEARN_NOTHING = ("quantize", "merge", "export")


@dataclass(frozen=True, slots=True)
class Runs:
    """The name of a row, and the checkpoints that are its runs, two at least."""

    name: str
    refs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The runs as `--runs` takes them."""
        return f"{self.name}={','.join(self.refs)}"


def parse_runs(text: str) -> Runs:
    """Read `NAME=CKPT,CKPT`; UsageError where it has another form, or names fewer than two checkpoints."""
    name, sign, refs = text.partition("=")
    found = tuple(ref.strip() for ref in refs.split(","))
    if not sign or not name.strip() or not all(found):
        raise UsageError(
            f"--runs {text!r} is not NAME=CKPT,CKPT; write the row's name, and its checkpoints with commas"
        )
    if len(found) < 2:
        raise UsageError(f"--runs {text!r} names one checkpoint; name two at least, or give it without --runs")
    return Runs(name.strip(), found)


def meant(ref: str | None, runs: Iterable[Runs]) -> tuple[str, ...]:
    """The checkpoints that a baseline means: the runs of that name, or one; none where there is no baseline."""
    named = next((each.refs for each in runs if each.name == ref), None)
    return named or (() if ref is None else (ref,))


def check_names(names: Sequence[str], runs: Iterable[Runs]) -> None:
    """UsageError where runs have the name of the row of a checkpoint."""
    for each in runs:
        if each.name in names:
            raise UsageError(f"--runs {each.text}: another row is called {each.name}; write another name")


def singles(rows: Iterable[Row]) -> list[Row]:
    """The rows of one checkpoint each: of a mean its runs."""
    return [each for row in rows for each in row.runs or (row,)]


def with_runs(rows: Iterable[Row]) -> list[Row]:
    """All rows as tables have them: a mean, and its runs below it."""
    return [each for row in rows for each in (row, *(row.runs or ()))]


def seed_of(row: Row) -> int | None:
    """The seed that a checkpoint learned with, by the last step of its manifest that learned; None where unknown."""
    steps: Any = (row.manifest or {}).get("steps")
    known = [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []
    learned = [step for step in known if not str(step.get("method")).startswith(_LEARN_NOTHING)]
    seed = learned[-1].get("seed") if learned else None
    return seed if isinstance(seed, int) else None


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of an evaluation hang together, by their places in one list: single rows, and means of several.

    `runs` has the runs of each mean, `versus` what a row is compared with (nothing for the baseline and its runs),
    `pairs` the baseline's run of the same seed for each run of a mean that is compared so.
    """

    runs: Mapping[int, Sequence[int]] = field(default_factory=dict)
    versus: Mapping[int, int] = field(default_factory=dict)
    pairs: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    base: int | None = None

    @classmethod
    def of(cls, rows: Sequence[Row], runs: Mapping[int, Sequence[int]] | None = None) -> Layout:
        """The layout of `rows`, of which one, with its runs where it has some, is marked as the baseline."""
        runs = runs or {}
        members = {run for each in runs.values() for run in each}
        base = next((at for at, row in enumerate(rows) if row.baseline and at not in members), None)
        if base is None:
            return cls(runs)
        apart = {base, *runs.get(base, ())}
        versus = {at: base for at in range(len(rows)) if at not in apart}
        pairs = {}
        for mean, own in runs.items():
            found = _paired(rows, own, runs.get(base, ())) if mean != base else None
            if found is not None:
                pairs[mean] = found
                versus |= found
        return cls(runs, versus, pairs, base)

    def is_single(self, at: int) -> bool:
        """Whether a row is one checkpoint, not a mean."""
        return at not in self.runs


def _paired(rows: Sequence[Row], own: Sequence[int], base: Sequence[int]) -> dict[int, int] | None:
    """The run of the baseline with the seed of each run; None where the two do not have the same seeds, each once."""
    ours, theirs = ({seed_of(rows[at]): at for at in each} for each in (own, base))
    if None in ours or len(ours) < len(own) or len(theirs) < len(base) or ours.keys() != theirs.keys():
        return None
    return {at: theirs[seed] for seed, at in ours.items()}
