"""Options: fields of frozen dataclasses, each of which says all that is known of it.

Flags, help texts, keys of TOML and YAML, the checks of values and the manifest all come from these fields::

    @dataclass(frozen=True, slots=True)
    class Settings:
        epochs: float | None = option(None, "Passes over the training data.", metavar="N", above=0)

        def __post_init__(self) -> None:
            check(self)

The type of a field is bool, int, float, str, Path, a Literal of texts, or a tuple of texts; `| None` stands for "not
given". Other types have an option with `parse`. A field without an option is not a flag. Nothing here imports what is
slow to import.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from compresskit.errors import InputError, UsageError

_KEY = "compresskit.option"

# Headings of the help texts.
DATA, TRAINING, SELECTION, MACHINE, OUTPUT = "Data", "Training", "Choice of the state", "Machine", "Output"


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of one option beside its type and its default.

    `flag` is the long flag (by default the field's name with dashes), `short` a one-letter one. `least` and `most` are
    bounds that a number may reach, `above` and `below` bounds that it may not. `panel` is the heading under which the
    help lists it, `shown` the default as the help tells it where the field's own would not do. `parse` reads a text
    that is not a plain value of the field's type, and raises ValueError. `hint` is a mend that a message about a wrong
    value ends with. `argument` is True for what the command line takes without a flag, `negatable` for a switch that
    has a flag `--no-…` too.
    """

    help: str
    flag: str = ""
    short: str = ""
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    panel: str | None = None
    shown: str | None = None
    parse: Callable[[str], Any] | None = None
    hint: str = ""
    argument: bool = False
    negatable: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """One option of a dataclass: its field's name, its type without None, and its default."""

    name: str
    kind: Any
    is_list: bool
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """What a person calls it on the command line."""
        if self.option.argument:
            return self.option.metavar or self.name.upper()
        return self.option.flag or "--" + self.name.replace("_", "-")


def option(default: Any, help_text: str, **known: Any) -> Any:
    """A dataclass field with an option; `known` are further fields of `Option`. MISSING makes it a required one."""
    metadata = {_KEY: Option(help_text, **known)}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def like(kind: type, name: str, **changes: Any) -> Any:
    """A field with the option and the default of the field `name` of another dataclass, but for `changes`.

    A change is a field of `Option`, or `default`.
    """
    known = options_of(kind)[name]
    default = changes.pop("default", known.default)
    return dataclasses.field(default=default, metadata={_KEY: dataclasses.replace(known.option, **changes)})


def options_of(kind: type) -> Mapping[str, Known]:
    """The options of a dataclass, by the names of their fields, in order."""
    if kind not in _known:
        _known[kind] = _options(kind)
    return _known[kind]


_known: dict[type, Mapping[str, Known]] = {}


def _options(kind: Any) -> Mapping[str, Known]:
    hints = get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if _KEY in field.metadata:
            own, is_list = _own_type(hints[field.name])
            known: Option = field.metadata[_KEY]
            if get_origin(own) is Literal and not known.choices:
                known = dataclasses.replace(known, choices=get_args(own))
            found[field.name] = Known(field.name, own, is_list, field.default, known)
    return found


def _own_type(hint: Any) -> tuple[Any, bool]:
    """A type without its None, and whether it is a tuple of such; a union of others stays one."""
    if get_origin(hint) in (Union, types.UnionType):
        others = [part for part in get_args(hint) if part is not types.NoneType]
        hint = others[0] if len(others) == 1 else Union[tuple(others)]  # noqa: UP007 (made at run time)
    if get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis:
        return get_args(hint)[0], True
    return hint, False


def check(values: Any) -> None:
    """UsageError for the first option of a dataclass whose value cannot be, naming the flag and the value."""
    kind: type = type(values)
    for known in options_of(kind).values():
        value = getattr(values, known.name)
        if value is not None and (problem := fault(known, value)):
            raise UsageError(f"{known.flag} {shown(value)} {problem}")


def fault(known: Known, value: Any) -> str | None:
    """What is wrong with a value of an option, as a phrase that follows the flag and the value; None where nothing is.

    A value of None means "not given", and is checked by whoever needs it.
    """
    return _mistyped(known, value) or _impossible(known, value)


def from_text(known: Known, text: str) -> Any:
    """The value that a word of the command line stands for; UsageError where it is not of the option's type.

    Choices and bounds are checked with the whole dataclass, by `check`.
    """
    read_text = known.option.parse or {int: int, float: float}.get(known.kind, str)
    try:
        return read_text(text)
    except ValueError as error:
        raise UsageError(f"{known.flag} {shown(text)} {_not_wanted(known)}") from error


def _mistyped(known: Known, value: Any) -> str | None:
    if known.is_list and not isinstance(value, list | tuple):
        return _not_wanted(known)
    entries = value if known.is_list else [value]
    return None if all(_has_type(entry, known.kind) for entry in entries) else _not_wanted(known)


def _impossible(known: Known, value: Any) -> str | None:
    own = known.option
    for entry in value if known.is_list else [value]:
        if own.choices and str(entry) not in own.choices:
            near = difflib.get_close_matches(str(entry), own.choices, n=1)
            return f"is not one of {', '.join(own.choices)}" + (f"; did you mean {near[0]}?" if near else "")
        if isinstance(entry, str | Path) and "\0" in str(entry):
            return "holds a NUL, which no name or text here can have"
        if isinstance(entry, int | float) and not isinstance(entry, bool) and not _in_bounds(own, entry):
            return f"is not {_bounds(own) if math.isfinite(entry) else 'finite'}{_hint(own)}"
    return None


def _not_wanted(known: Known) -> str:
    return f"is not {_wanted(known)}{_hint(known.option)}"


def _hint(own: Option) -> str:
    return f"; {own.hint}" if own.hint else ""


def _has_type(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    if get_origin(kind) is Union:
        return any(
            value in get_args(part) if get_origin(part) is Literal else _has_type(value, part)
            for part in get_args(kind)
        )
    if kind in (int, float, bool):
        right = int | float if kind is float else kind
        return isinstance(value, right) and isinstance(value, bool) == (kind is bool)
    if kind is Path:
        return isinstance(value, str | Path)
    return isinstance(value, kind) if isinstance(kind, type) else True


def _in_bounds(own: Option, value: float) -> bool:
    return (
        math.isfinite(value)
        and (own.least is None or value >= own.least)
        and (own.most is None or value <= own.most)
        and (own.above is None or value > own.above)
        and (own.below is None or value < own.below)
    )


def _bounds(own: Option) -> str:
    """The range of a number in words."""
    limits = (("at least", own.least), ("above", own.above), ("at most", own.most), ("below", own.below))
    return " and ".join(f"{word} {limit:.10g}" for word, limit in limits if limit is not None)


def range_of(own: Option) -> str:
    """The range of a number as the help shows it, such as `0<=x<1` or `x>0`; "" where there are no bounds."""
    low = [(f"{limit:.10g}", sign) for sign, limit in (("=", own.least), ("", own.above)) if limit is not None]
    high = "".join(f"<{sign}{limit:.10g}" for sign, limit in (("=", own.most), ("", own.below)) if limit is not None)
    if low and not high:
        return "".join(f"x>{sign}{limit}" for limit, sign in low)
    return "".join(f"{limit}<{sign}" for limit, sign in low) + f"x{high}" if high else ""


def _wanted(known: Known) -> str:
    """What a value of an option has to be, in words."""
    if known.option.parse is not None:
        return known.option.metavar or "such a value"
    if known.option.choices:
        return f"{'a list of texts, each ' if known.is_list else ''}one of {', '.join(known.option.choices)}"
    names: Mapping[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}
    return "a list of texts" if known.is_list else names.get(known.kind, "a text")


def shown(value: Any) -> str:
    """A value as a message tells it: on one line, and in quotes where it would not be seen as one word."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if text and text.isprintable() and " " not in text else f"{text!r:.80}"


def refuse(values: Any, names: Iterable[str], why: str) -> None:
    """UsageError for the first of the options `names` that was given (not None, not False) although it has no effect.

    `why` says when that is, such as "without --distill".
    """
    kind: type = type(values)
    known = options_of(kind)
    for name in names:
        value = getattr(values, name)
        if value is not None and value is not False:  # a 0 was given, though it equals False
            given = known[name].flag if value is True else f"{known[name].flag} {shown(value)}"
            raise UsageError(f"{given} has no effect {why}; leave it out")


def read(kinds: Sequence[type], raw: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Values of TOML or YAML under the names of the fields of `kinds`, checked as `check` does.

    A key is a field's name, with dashes or underscores. Raises InputError, naming `where` and the key, for an unknown
    key and for a value of another type; UsageError, as the command line does, for a value that is out of its bounds.
    """
    known = {name: each for kind in kinds for name, each in options_of(kind).items()}
    found = {}
    for key, value in raw.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise InputError(f"{where}: unknown key {key!r}; {nearest_or_all(name, known)}")
        found[name] = _read(known[name], key, value, where)
    return found


def nearest_or_all(word: str, known: Iterable[str]) -> str:
    """The mend for a word that is none of the `known`: the nearest of them, or where none is near, all."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"


def _read(known: Known, key: Any, value: Any, where: str) -> Any:
    told = f"{where}: {key} {value!r:.80}"
    if known.option.parse is not None and isinstance(value, str):
        try:
            value = known.option.parse(value)
        except ValueError as error:
            raise InputError(f"{told} {_not_wanted(known)}") from error
    if value is None or _mistyped(known, value):
        raise InputError(f"{told} {_not_wanted(known)}")
    if problem := _impossible(known, value):
        raise UsageError(f"{told} {problem}")
    if known.is_list:
        return tuple(value)
    return Path(value) if known.kind is Path else value
