"""Steps that are run with several seeds: which seeds a step has, and how it is paired with what it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compresskit.options import options_of
from compresskit.recipe.places import Place
from compresskit.training.arguments import TrainingOptions

if TYPE_CHECKING:
    from compresskit.recipe.recipe import Checkpoint

LEAST = 2
"""Fewer runs have no spread."""
MOST = 100
FIRST: int = options_of(TrainingOptions)["seed"].default


@dataclass(frozen=True, slots=True)
class Input:
    """What a base or a teacher means: one checkpoint or MODEL, or with `of` the checkpoint of each seed."""

    name: str
    of: Mapping[int, str]

    def at(self, seed: int | None) -> str:
        """The name of the one of a seed."""
        return self.name if seed is None or not self.of else self.of[seed]


def inputs(name: str, earlier: Sequence[Checkpoint]) -> list[Input]:
    """What a name means: a checkpoint; all runs of one, together; all checkpoints of a step; else itself."""
    if any(each.name == name for each in earlier):
        return [Input(name, {})]
    found: dict[str, dict[int, str]] = {}
    for each in earlier:
        if name in (each.run_of, each.step):
            found.setdefault(each.run_of, {}).update({} if each.seed is None else {each.seed: each.name})
    return [Input(one, of) for one, of in found.items()] or [Input(name, {})]


def counted_seeds(value: Any, place: Place) -> int | None:
    """The number of seeds that a step is given; None for none. The error of its place where it cannot be."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not LEAST <= value <= MOST:
        raise place.error(
            f"seeds {value!r:.80} is not a whole number from {LEAST} to {MOST}; write how many runs to make"
        )
    return value


def seeds_of(
    count: int | None, first: int | None, above: Mapping[str, Input], place: Place, seed_place: Place | None
) -> list[int | None]:
    """The seeds of what is made of a base and a teacher (`above`, by their keys); None alone where there are none.

    They are those of what it stands on, where that has some, else `count` of them from `first` on. `seed_place` is
    where the step's own seed stands, None where it has none. Raises the error of a place where they do not fit
    together.
    """
    given = {key: sorted(each.of) for key, each in above.items() if each.of}
    if len({tuple(seeds) for seeds in given.values()}) > 1:
        told = ", ".join(f"{key} {above[key].name} the seeds {_listed(seeds)}" for key, seeds in given.items())
        raise place.error(f"{told}; give both the same seeds")
    if not given:
        begin = FIRST if first is None else first
        return [None] if count is None else [*range(begin, begin + count)]
    key, seeds = next(iter(given.items()))
    told = f"its {key} {above[key].name} has the seeds {_listed(seeds)}, which are its own then"
    if count is not None and count != len(seeds):
        raise place.error(f"seeds {count}: {told}; write as many, or leave seeds out")
    if seed_place is not None and first != seeds[0]:
        raise seed_place.error(f"seed {first}: {told}; leave seed out")
    return list(seeds)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
