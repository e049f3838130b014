"""A tree of JSON, of which one entry is changed: removed, renamed, doubled, nested, of another type, or extreme."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True)
class Raw:
    """A text that stands in the JSON as it is."""

    text: str


@dataclass
class Quoted:
    """JSON within a text, as the table of masks is in a header."""

    content: Any


class Twice:
    """An entry of an object that stands there twice, with two values."""

    def __init__(self, first: Any, second: Any) -> None:
        self.values = (first, second)


EXTREMES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 1000, 1 << 20, 1 << 31, 1 << 63, 1 << 64, 10**30, 1e-320, 0.5, -1e308, 1e308),
    *("", " ", "a", "1", "\0", "\ud800", "\x1b[31mred", "é\u202e", "a" * 3_000_000, "../x", "/etc/passwd", "~x", "{}"),
    *([], {}, [[]], [1, -1], [None], {"": None}, [[1 << 20, 1 << 20]], ["a"] * 1000, {"a": {"b": {"c": []}}}),
    *(Raw("NaN"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw("-0"), Raw("01"), Raw("[1,]")),
)
DEEP = (100, 1_000, 100_000)


def changed(tree: Any, rng: Random) -> tuple[Any, str]:
    """A tree of JSON with one of its entries removed, renamed, doubled, nested, or of another value."""
    tree = _opened(tree)
    places = list(_places(tree, "$"))
    if not places or rng.random() < 0.02:
        value = rng.choice(EXTREMES)
        return value, f"$ = {short(value)}"
    container, key, where = rng.choice(places)
    action = rng.choice(("remove", "rename", "double", "nest", "extreme", "extreme", "extreme", "retype"))
    if action == "remove":
        del container[key]
    elif action == "rename" and isinstance(container, dict):
        container[rng.choice(("", "x", "\ud800", "__class__", str(key).upper(), f"{key}\x1b[0m"))] = container.pop(key)
    elif action == "double" and isinstance(container, dict):
        container[key] = Twice(container[key], rng.choice(EXTREMES))
    elif action == "nest":
        depth = rng.choice(DEEP)
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
        container[key] = Raw(opening * depth + "0" + closing * depth)
        where += f", {depth} deep"
    else:
        container[key] = rng.choice(EXTREMES) if action != "retype" else _of_another_type(container[key])
        where += f" = {short(container[key])}"
    return tree, f"{action} {where}"


def dumped(tree: Any) -> bytes:
    """A changed tree as a file holds it."""
    return text_of(tree).encode("utf-8", "surrogatepass")


def text_of(tree: Any) -> str:
    match tree:
        case Raw():
            return tree.text
        case Quoted():
            return json.dumps(text_of(tree.content))
        case dict():
            return "{" + ", ".join(_entry(key, value) for key, value in tree.items()) + "}"
        case list():
            return "[" + ", ".join(text_of(value) for value in tree) + "]"
        case _:
            return json.dumps(tree)


def _entry(key: Any, value: Any) -> str:
    values = value.values if isinstance(value, Twice) else (value,)
    return ", ".join(f"{json.dumps(key)}: {text_of(each)}" for each in values)


def read_tree(content: bytes) -> Any:
    """The value of a JSON object or list; None for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _opened(tree: Any) -> Any:
    """The tree, with the JSON in its texts opened."""
    match tree:
        case dict():
            return {key: _opened(value) for key, value in tree.items()}
        case list():
            return [_opened(value) for value in tree]
        case str() if tree[:1] in ("{", "[") and (inner := read_tree(tree.encode("utf-8", "replace"))) is not None:
            return Quoted(_opened(inner))
        case _:
            return tree


def _places(tree: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """Every entry of a tree: the object or list, the key, and the path of the entry."""
    if isinstance(tree, Quoted):
        yield from _places(tree.content, where)
        return
    # A vocabulary's thousands of entries would hide all others.
    entries = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())[:40]
    for key, value in entries:
        yield tree, key, f"{where}.{key}"
        yield from _places(value, f"{where}.{key}")


def _of_another_type(value: Any) -> Any:
    match value:
        case str():
            return [value]
        case bool() | None:
            return "yes"
        case int() | float():
            return str(value)
        case list():
            return {str(index): each for index, each in enumerate(value)}
        case dict():
            return list(value.values())
        case _:
            return 7


def short(value: Any) -> str:
    text = text_of(value)
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} characters)"
