"""Faults of data, and how messages call values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

_SHOWN = 60
_KEYS_SHOWN = 8


class Missing(Enum):
    """Stands for the value of a key that is not there."""

    MISSING = "nothing"


MISSING = Missing.MISSING


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece stands in its source: `words` for a person, `path` as jq has it (empty where there is none)."""

    words: str
    path: str = ""

    def question(self, index: int, id: object) -> Place:
        """The place of the question with this index and id in the passage here."""
        called = quoted(str(id)) if id and isinstance(id, str | int) else index
        return Place(f"{self.words}, question {called}", f"{self.path}.qas[{index}]")

    def within(self, file: str) -> Place:
        """The same place, told of a file of this name."""
        return Place(f"{file}, {self.words}" if self.words else file, self.path)

    def of_row(self, id: object) -> Place:
        """The place of the question with this id in the row here."""
        known = id and isinstance(id, str | int)
        return Place(f"{self.words}, question {quoted(str(id))}", self.path) if known else self

    def __str__(self) -> str:
        """The beginning of a message."""
        path = f" ({self.path})" if self.path else ""
        return f"{self.words}{path}: " if self.words else ""


class Fault(ValueError):
    """What is wrong with a piece of data, and the mend; `place` is where, where the catcher does not know it."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.place = place


def kind(value: object) -> str:
    """How to call the type of a value of JSON in a message."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "a string" if isinstance(value, str) else f"the number {value}"


def quoted(text: str) -> str:
    """`text` on one line, cut to a readable length."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def listed(keys: Iterable[object]) -> str:
    """The first keys, as a message names them."""
    found = list(keys)
    more = f" and {len(found) - _KEYS_SHOWN:,} more" if len(found) > _KEYS_SHOWN else ""
    return (", ".join(quoted(str(key)) for key in found[:_KEYS_SHOWN]) or "no keys") + more


def string(value: object, key: str) -> str:
    """`value` as the string under `key`. Raises Fault."""
    if isinstance(value, str):
        return value
    if value is MISSING:
        raise Fault(f"the key {key!r} is missing; add it")
    raise Fault(f"{key!r} is {kind(value)}, not a string")


class Object(dict[str, Any]):
    """An object of JSON that remembers a key that stands twice in it."""

    twice: str | None = None

    def __setitem__(self, key: str, value: object) -> None:
        if key in self:
            self.twice = key
        super().__setitem__(key, value)


def fields(value: object, what: str) -> Mapping[str, Any]:
    """`value` as an object with every key once; `what` is how a message calls it. Raises Fault."""
    if not isinstance(value, Mapping):
        raise Fault(f"{what} is {kind(value)}, not an object")
    if isinstance(value, Object) and value.twice is not None:
        raise Fault(f"the key {quoted(value.twice)} stands twice in {what}; remove one")
    return value


def items(value: Mapping[str, Any], key: str) -> list[Any]:
    """The list under `key`. Raises Fault."""
    found = value.get(key, MISSING)
    if found is MISSING:
        raise Fault(f"the key {key!r} is missing; add it")
    if not isinstance(found, list):
        raise Fault(f"{key!r} is {kind(found)}, not a list")
    return found


def context(value: object) -> str:
    """`value` as the text of a paragraph. Raises Fault."""
    text = string(value, "context")
    if not text.strip():
        raise Fault("'context' is empty; remove the paragraph or give it its text")
    return text
