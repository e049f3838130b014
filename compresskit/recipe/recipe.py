"""A recipe: what is made of what, in which order, and how it is measured. Nothing here needs torch."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from compresskit import options
from compresskit.errors import CompresskitError
from compresskit.models.architecture import ARCHITECTURES
from compresskit.models.source import known_aliases
from compresskit.options import Known
from compresskit.recipe.document import Document, bases, change, change_seeds, read_document
from compresskit.recipe.places import Place, blamed
from compresskit.recipe.seeds import Input, counted_seeds, inputs, seeds_of
from compresskit.recipe.verbs import VERBS, Verb, key_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""What a step may be called."""
_LONGEST = 150  # letters of a checkpoint's name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that a step makes: the verb, what it starts from, and the values given of the verb's options.

    `base` and the option `teacher` are the names of earlier checkpoints, or what MODEL may be. `places` tells where
    each value stands, by the name of its field, `place` where the step does. Of one that is made with several seeds,
    `run_of` is what all of them are called together, and `seed` its own; else its name, and None.
    """

    name: str
    step: str
    run_of: str
    seed: int | None
    base: str
    verb: Verb
    values: Mapping[str, Any]
    places: Mapping[str, Place]
    place: Place

    @property
    def folders(self) -> Sequence[str]:
        """The names of all folders that making it leaves: its own, and a teacher's or a packed base's beside it."""
        trains_teacher = self.values.get("distill") and "teacher" not in self.values
        beside = {"-teacher": trains_teacher, "-base": self.verb.name == "qlora"}
        return [self.name, *(self.name + ending for ending, is_left in beside.items() if is_left)]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe says, checked: its checkpoints in their order, and the document with its block `eval`."""

    name: str
    checkpoints: Sequence[Checkpoint]
    document: Document

    def named(self, name: str) -> list[str]:
        """The checkpoints of a step, of several seeds, or of their own names; none where nothing is called so."""
        own = [each.name for each in self.checkpoints if each.name == name]
        runs = [each.name for each in self.checkpoints if each.run_of == name]
        return own or runs or [each.name for each in self.checkpoints if each.step == name]

    @property
    def runs(self) -> Mapping[str, Sequence[str]]:
        """The checkpoints of each name that stands for several seeds."""
        found: dict[str, list[str]] = {}
        for each in self.checkpoints:
            if each.seed is not None:
                found.setdefault(each.run_of, []).append(each.name)
        return found


def read_recipe(path: Path, changes: Sequence[str] = (), seeds: int | None = None) -> Recipe:
    """The recipe in a file, with the `changes` of `--set`; `seeds` is how many each step that trains has, as `--seeds`.

    Raises InputError, naming line and key, for what cannot be; UsageError for a change that cannot.
    """
    document = read_document(path)
    if seeds is not None:
        change_seeds(document, seeds, Place(f"--seeds {seeds}", typed=True))
    for text in changes:
        change(document, text)
    made: list[Checkpoint] = []
    steps: dict[str, Place] = {}
    for index, step in enumerate(document.steps):
        place = document.place("steps", index)
        _check_name(step["name"], document.place("steps", index, "name"), steps)
        steps[step["name"]] = place
        made += _checkpoints(document, index, made)
    _check_folders(made)
    for each in made:
        check_values(each)
    return Recipe(path.stem, made, document)


def check_values(checkpoint: Checkpoint) -> None:
    """Raise the error of the place where a value of a checkpoint cannot be, or has no effect, as far as can be told."""
    try:
        checkpoint.verb.job({**checkpoint.values, "model": checkpoint.base, "output": Path(checkpoint.name)})
    except CompresskitError as error:
        raise blamed(error, checkpoint.places, checkpoint.place) from error


def _check_name(name: str, place: Place, taken: Mapping[str, Place]) -> None:
    if not NAME.fullmatch(name):
        raise place.error(f"name {name!r:.80} is not made of letters, digits, - and _; write another")
    if name in known_aliases() or name == "eval":
        raise place.error(f"name {name} means something else already; write another, such as {name}-1")
    if name in taken:
        raise place.error(f"name {name} is that of the step of {taken[name].text} too; give each its own")


def _checkpoints(document: Document, index: int, earlier: Sequence[Checkpoint]) -> Iterator[Checkpoint]:
    """Yield what a step makes: one checkpoint for each combination of the values of its options and its bases.

    Each is made once for each of its seeds, from the base and the teacher of that seed.
    """
    step, place = document.steps[index], document.place("steps", index)
    verb = VERBS[step["method"]]
    places, choices = {}, {}
    for key, value in step["options"].items():
        where, name = document.place("steps", index, "options", key), key.replace("-", "_")
        if name not in verb.options:
            raise where.unknown(f"key of {verb.name}", key, map(key_of, verb.options))
        places[name] = where
        choices[name] = alternatives(verb.options[name], value, where)
    teachers = [_teacher(name, places["teacher"], earlier) for name in choices.get("teacher", ())]
    froms = [each for base in bases(step) for each in inputs(base, earlier)]
    _check_order(document, index, "base", [each.name for each in froms if not each.of], earlier)
    _check_order(document, index, "teacher", [each.name for each in teachers if not each.of], earlier)
    count = _seeds(document, index, choices)
    for base, *values in itertools.product(froms, *choices.values()):
        several = [_shown(base.name)] if len(froms) > 1 else []
        several += [
            _shown(value, name) for (name, all_), value in zip(choices.items(), values, strict=True) if all_[1:]
        ]
        given = {name: _read(verb, name, value, places[name]) for name, value in zip(choices, values, strict=True)}
        above = {"base": base}
        if "teacher" in given:
            above["teacher"] = teachers[choices["teacher"].index(given["teacher"])]
        name = "-".join([step["name"], *several])
        own = places.get("seed") if verb.trains else None
        own = None if own == document.places.get(("options", "seed")) else own  # what all share gives way
        for seed in seeds_of(count, given.get("seed"), above, document.place("steps", index, "seeds"), own):
            made = dict(given)
            if "teacher" in above:
                made["teacher"] = above["teacher"].at(seed)
            if seed is not None and verb.trains:
                made["seed"] = seed
            whole = name if seed is None else f"{name}-seed{seed}"
            yield Checkpoint(whole, step["name"], name, seed, base.at(seed), verb, made, places, place)


def _seeds(document: Document, index: int, choices: Mapping[str, Sequence[Any]]) -> int | None:
    """How many seeds a step is given; None for none. The error of its place where it cannot have some."""
    step, place = document.steps[index], document.place("steps", index, "seeds")
    count = counted_seeds(step.get("seeds"), place)
    if count is not None and not VERBS[step["method"]].trains:
        told = "of a base with several seeds there is one for each anyway"
        raise place.error(f"{step['method']} learns nothing, so it has no seeds; leave seeds out: {told}")
    if count is not None and len(choices.get("seed", ())) > 1:
        raise place.error("seed has several values, so it cannot have seeds too; leave one of the two out")
    return count


def alternatives(known: Known, value: Any, place: Place) -> list[Any]:
    """The values that are written for an option: each entry of a list is one, of an option that is a list each list."""
    is_several = isinstance(value, list) and (not known.is_list or all(isinstance(each, list) for each in value))
    if value == []:
        raise place.error(f"{key_of(known.name)} holds an empty list; write a value")
    if not is_several:
        return [value]
    if any(one == other for one, other in itertools.combinations(value, 2)):
        raise place.error(f"{key_of(known.name)} holds one value twice; leave one of them out")
    return list(value)


def _read(verb: Verb, name: str, value: Any, place: Place) -> Any:
    return read_value(verb.options[name], verb.kinds, value, place)


def read_value(known: Known, kinds: Sequence[type], value: Any, place: Place) -> Any:
    """The value of an option, checked; the error of its place where it cannot be."""
    value = _plain(known, value)
    key, where = key_of(known.name), place.text
    kinds = [kind for kind in kinds if known.name in options.options_of(kind)] or _built(known.name)
    try:
        return options.read(kinds, {key: value}, where)[known.name]
    except CompresskitError as error:
        raise place.error(str(error).removeprefix(f"{where}: ")) from error


def _built(name: str) -> list[type]:
    return [kind for kind in ARCHITECTURES.values() if name in options.options_of(kind)]


def _plain(known: Known, value: Any) -> Any:
    """A value as its option has it: YAML 1.1 takes `5e-5` for a text, and the choice `1` for a number."""
    if known.kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    is_text = known.kind is str or get_origin(known.kind) is not None
    if known.option.choices and is_text and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _teacher(name: Any, place: Place, earlier: Sequence[Checkpoint]) -> Input:
    meant = inputs(name, earlier) if isinstance(name, str) else [Input(name, {})]
    if len(meant) > 1:
        raise place.error(f"teacher {name} makes several checkpoints; name one: {', '.join(one.name for one in meant)}")
    return meant[0]


def _check_order(document: Document, index: int, key: str, refs: Sequence[Any], earlier: Sequence[Checkpoint]) -> None:
    """The error of a base or a teacher that is a later step, or the step itself, or nothing at all."""
    known = {name for each in earlier for name in (each.name, each.run_of)}
    later = {step["name"] for step in document.steps[index:]}
    place = document.place("steps", index, *(("options", key) if key == "teacher" else (key,)))
    for ref in refs:
        if not isinstance(ref, str) or ref in known:
            continue
        if ref in later:
            raise place.error(f"{key} {ref} is not an earlier step; move that step up, or name another")
        check_reference(ref, key, known, place)


def check_reference(ref: str, key: str, known: Iterable[str], place: Place) -> None:
    """The error of a name that is neither one of the `known`, nor an alias, nor can be a folder's or the Hub's."""
    if "/" not in ref and ref not in known_aliases() and not os.path.lexists(ref):
        raise place.unknown(key, ref, [*known, *known_aliases()])


def _shown(value: Any, name: str = "") -> str:
    """A value in the name of a checkpoint."""
    if isinstance(value, bool):
        return key_of(name) if value else f"no-{key_of(name)}"
    text = "+".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else value
    return re.sub(r"(?:[^A-Za-z0-9.+_]|\.(?!\d))+", "-", str(text)).strip("-.")


def _check_folders(made: Sequence[Checkpoint]) -> None:
    """The error of a checkpoint whose folder would be that of another, or has too long a name."""
    taken: dict[str, Checkpoint] = {}
    runs = {each.run_of: each for each in made if each.seed is not None}
    for each in made:
        if (other := runs.get(each.name)) is not None:
            raise each.place.error(f"{each.name} is what the seeds of the step {other.step} are called; rename a step")
        for folder in each.folders:
            if folder in taken:
                raise each.place.error(
                    f"{each.name} and {taken[folder].name} would both lie in {folder}; rename a step"
                )
            if len(folder) > _LONGEST:
                raise each.place.error(f"the name {folder[:40]}… is too long; write fewer values, or shorter names")
            taken[folder] = each
