"""The text of a recipe as nested values, each with its place, and what `--set` changes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.checkpoint.reading import read_text
from compresskit.errors import InputError
from compresskit.evaluate.settings_text import MOST_YAML, Keys, from_yaml, from_yaml_with_lines
from compresskit.models.architecture import ARCHITECTURES
from compresskit.recipe.places import Place
from compresskit.recipe.verbs import BUILT, VERBS, key_of
from compresskit.text import kind_of

RECIPE_KEYS: Mapping[str, str] = {
    "about": "What the recipe makes, in one line.",
    "options": "Options of every step that trains and takes them; a step's own come first.",
    "steps": "The checkpoints to make, in their order.",
    "eval": "What is measured of them, and what has to hold: the keys of `compresskit eval`.",
}
STEP_KEYS: Mapping[str, str] = {
    "name": "What the step is called; its checkpoint lies in a folder of that name.",
    "base": "What it starts from: an earlier step, or a MODEL (an alias, a Hub id, a folder).",
    "method": "The verb that it runs.",
    "seeds": "How many times it is made, each with another seed: its own `seed` and the next ones.",
    "options": "The flags of the verb; several values of one make several checkpoints.",
}
_MEND = "give a recipe"


@dataclass(slots=True)
class Document:
    """A recipe as it was read: `about`, `steps` (mappings of `STEP_KEYS`) and `evaluation`, None where there is none.

    `places` tells where each value stands, by its keys from the top; `file` where nothing nearer is known.
    """

    file: str
    about: str
    steps: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    places: dict[Keys, Place]

    def place(self, *keys: str | int) -> Place:
        """Where a value stands, or the nearest of what it stands in."""
        for end in range(len(keys), 0, -1):
            if keys[:end] in self.places:
                return self.places[keys[:end]]
        return Place(self.file)


def read_document(path: Path) -> Document:
    """Read a recipe's file, and hand the options that all steps share to those that take them.

    Raises InputError, naming line and key, where it is no recipe.
    """
    try:
        value, lines = from_yaml_with_lines(read_text(path, _MEND, MOST_YAML))
    except ValueError as error:
        raise InputError(f"{path}: is not valid YAML ({error}); {_MEND}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {kind_of(value)}; a recipe has the keys {', '.join(RECIPE_KEYS)}")
    places = {keys: Place(f"{path}:{line}") for keys, line in lines.items()}
    document = Document(str(path), "", [], None, places)
    _check_keys(document, (), value, RECIPE_KEYS, "key of a recipe")
    document.about = _typed(document, ("about",), value.get("about", ""), str)
    steps = _typed(document, ("steps",), value.get("steps", []), list)
    if not steps and "eval" not in value:
        raise document.place("steps").error("the recipe neither makes nor measures a checkpoint; write steps: or eval:")
    document.steps = [_step(document, index, each) for index, each in enumerate(steps)]
    if "eval" in value:
        document.evaluation = _dashed(document, ("eval",), value["eval"])
    for key, shared in _dashed(document, ("options",), value.get("options", {})).items():
        place = document.place("options", key)
        for index in takers(document, key, place):
            if key not in document.steps[index]["options"]:
                document.steps[index]["options"][key] = shared
                document.places["steps", index, "options", key] = place
    return document


def change(document: Document, text: str) -> None:
    """Change a recipe as `--set text` says: `KEY=VALUE`, `STEP.KEY=VALUE` or `eval.KEY=VALUE`; null takes a key away.

    A key alone is that of every step that takes it, as it is with shared options; `base` is that of every step that
    starts from a MODEL, `seeds` that of every step that trains. Raises UsageError where the text has another form, or
    nothing takes the key.
    """
    place = Place(f"--set {text}", typed=True)
    key, sign, written = text.partition("=")
    if not sign or not key:
        raise place.error("is not KEY=VALUE; write --set STEP.KEY=VALUE")
    try:
        value = from_yaml(written)
    except ValueError as error:
        raise place.error(f"the value is not valid YAML ({error})") from error
    owner, dot, key = key.rpartition(".")
    key = key_of(key)
    if owner == "eval":
        document.evaluation = {} if document.evaluation is None else document.evaluation
        _put(document, document.evaluation, ("eval", key), value, place)
        return
    names = [step["name"] for step in document.steps]
    if dot and owner not in names:
        raise place.unknown("step", owner, [*names, "eval"])
    if key == "base":
        first = [index for index, step in enumerate(document.steps) if not set(bases(step)) & set(names)]
        for index in [names.index(owner)] if dot else first:
            _put(document, document.steps[index], ("steps", index, key), value, place)
        return
    if key == "seeds":
        change_seeds(document, value, place, names.index(owner) if dot else None)
        return
    for index in [names.index(owner)] if dot else takers(document, key, place, clears=value is None):
        _put(document, document.steps[index]["options"], ("steps", index, "options", key), value, place)


def change_seeds(document: Document, value: Any, place: Place, step: int | None = None) -> None:
    """Put the key `seeds` of one step, or of every step that trains.

    Raises the error of `place` where none trains, or the value cannot be.
    """
    training = [index for index, each in enumerate(document.steps) if VERBS[each["method"]].trains]
    if step is None and not training:
        raise place.error("the recipe has no step that trains; leave seeds out")
    for index in training if step is None else [step]:
        _put(document, document.steps[index], ("steps", index, "seeds"), value, place)


def _put(document: Document, holder: dict[str, Any], keys: Keys, value: Any, place: Place) -> None:
    if value is None and keys[-1] != "base":
        holder.pop(str(keys[-1]), None)
        return
    if keys[-1] == "base":
        _check_base(value, place)
    holder[str(keys[-1])] = value
    document.places = {known: each for known, each in document.places.items() if known[: len(keys)] != keys}
    document.places[keys] = place


def bases(step: Mapping[str, Any]) -> list[str]:
    """What a step starts from, as it is written."""
    base = step["base"]
    return list(base) if isinstance(base, list) else [base]


def takers(document: Document, key: str, place: Place, *, clears: bool = False) -> Sequence[int]:
    """The steps that an option without the name of a step is for: of those that take it the ones that train.

    Where none of those trains it is for the others too; what is already told of a step, `clears` or not, is replaced
    there. Raises the error of `place` where no step takes it.
    """
    name = key.replace("-", "_")
    able = [index for index, step in enumerate(document.steps) if _takes(step, name)]
    if not able:
        every = {key_of(each) for step in document.steps for each in VERBS[step["method"]].options}
        raise place.unknown("key of its steps", key, every)
    told = [index for index in able if key in document.steps[index]["options"]]
    if clears:
        return told
    training = [index for index in able if VERBS[document.steps[index]["method"]].trains]
    return sorted({*(training or able), *told})


def _takes(step: Mapping[str, Any], name: str) -> bool:
    own = VERBS[step["method"]].options
    is_built = all(base in ARCHITECTURES for base in bases(step))
    return name in own and (name not in BUILT or is_built)


def _step(document: Document, index: int, value: Any) -> dict[str, Any]:
    keys = ("steps", index)
    step = _mapping(document, keys, value)
    _check_keys(document, keys, step, STEP_KEYS, "key of a step")
    for key in ("name", "base", "method"):
        if key not in step:
            raise document.place(*keys).error(f"the step lacks the key {key}; a step has {', '.join(STEP_KEYS)}")
    for key in ("name", "method"):
        _typed(document, (*keys, key), step[key], str)
    if step["method"] not in VERBS:
        raise document.place(*keys, "method").unknown("method", step["method"], VERBS)
    _check_base(step["base"], document.place(*keys, "base"))
    return {**step, "options": _dashed(document, (*keys, "options"), step.get("options", {}))}


def _check_base(value: Any, place: Place) -> None:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(each, str) and each for each in texts):
        raise place.error("base is the name of an earlier step or a MODEL, or a list of such; write one")


def _mapping(document: Document, keys: Keys, value: Any) -> dict[str, Any]:
    found: dict[Any, Any] = _typed(document, keys, value, dict)
    return {str(key): each for key, each in found.items()}


def _dashed(document: Document, keys: Keys, value: Any) -> dict[str, Any]:
    """A mapping of options, whose keys may be written with underscores."""
    given = _mapping(document, keys, value)
    for key in given:
        document.places[(*keys, key_of(key))] = document.place(*keys, key)
    return {key_of(key): each for key, each in given.items()}


def _typed(document: Document, keys: Keys, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        wanted = "a text" if kind is str else "a list" if kind is list else "KEY: VALUE pairs"
        raise document.place(*keys).error(f"{keys[-1]} holds {kind_of(value)}; write {wanted}")
    return value


def _check_keys(document: Document, keys: Keys, value: Mapping[Any, Any], known: Mapping[str, str], what: str) -> None:
    for key in value:
        if key not in known:
            raise document.place(*keys, str(key)).unknown(what, str(key), known)
