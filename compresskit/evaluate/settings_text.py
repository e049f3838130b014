"""The values of a TOML or YAML text that anybody may have written: small, flat enough, and never more than they say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from compresskit.text import TOO_DEEP, check_depth

MOST_TOML, MOST_YAML = 128_000, 64_000
"""Bytes of such a text. For each part of a key a reader of TOML keeps a kilobyte; YAML takes 30 µs a byte."""
_MOST_VALUES = 100_000
_MOST_PARTS = 32

# A key such as `a.b."c d"`, of more parts than 32. The reader keeps the beginnings of a key, each anew.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*+){{{_MOST_PARTS}}}")


def from_toml(text: str) -> dict[str, Any]:
    """The values of a TOML text; ValueError where it is none, is nested too deep, or has too long a key or number."""
    if _LONG_KEY.search(text):
        raise ValueError(f"it has a key of more than {_MOST_PARTS} parts")
    try:
        value = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    check_depth(value)
    return value


def from_yaml(text: str) -> Any:
    """The value of a YAML text, with what its aliases stand for.

    ValueError where it is none, is nested too deep or in itself, unfolds to more than 100,000 values, or has too long
    a number.
    """
    return _read(text)[0]


def from_yaml_with_lines(text: str) -> tuple[Any, Mapping[Keys, int]]:
    """The value of a YAML text, and the line of each entry by its keys and indices from the top: `("steps", 0)`.

    ValueError where `from_yaml` raises it, and where a key stands twice in one mapping.
    """
    value, node = _read(text, once=True)
    return value, {} if node is None else dict(_lines(node, ()))


Keys = tuple[str | int, ...]
"""Where a value stands in nested mappings and lists, from the top."""


def _read(text: str, *, once: bool = False) -> tuple[Any, yaml.Node | None]:
    """The value and the nodes that it is of; with `once` no mapping may have a key twice."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        check_depth(node, _nodes, _MOST_VALUES)
        if once:  # before what is merged into a mapping stands in it beside its own keys
            _check_once(node)
        value = loader.construct_document(node)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    check_depth(value)
    return value, node


def _check_once(node: yaml.Node) -> None:
    seen: set[str] = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        name = str(key.value)
        if name in seen:
            raise ValueError(f"line {key.start_mark.line + 1}: the key {name!r} stands there twice")
        seen.add(name)
    for each in _nodes(node):
        _check_once(each)


def _lines(node: yaml.Node, path: Keys) -> Iterator[tuple[Keys, int]]:
    """Yield the place and the line of all entries in a node, those of mappings by their keys."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _lines(value, (*path, index))


def _nodes(node: yaml.Node) -> Iterable[yaml.Node]:
    """The nodes in a node, those of an alias each time that it stands there."""
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()
