"""Keywords of a call as the values of options: what was given, checked, in the types that the dataclasses take."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compresskit.errors import UsageError
from compresskit.options import Known, fault, nearest_or_all, shown


class KeywordError(UsageError, TypeError):
    """A call has a keyword that its function does not take; the message names the nearest that it does."""


def values_of(call: str, known: Mapping[str, Known], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the options `known` that were given as `keywords` of `ck.<call>`; what is None was not.

    Raises KeywordError for an unknown keyword, UsageError for a value that cannot be, naming the keyword.
    """
    for name in keywords:
        if name not in known:
            raise KeywordError(f"ck.{call} takes no keyword {name}; {nearest_or_all(name, known)}")
    return {name: _value(known[name], value) for name, value in keywords.items() if value is not None}


def reference(value: object, name: str = "model") -> str:
    """What the command line would be given for a checkpoint or for data: a text, a path, a `Checkpoint`.

    Raises UsageError for anything else.
    """
    ref = getattr(value, "ref", None)
    if isinstance(ref, str):
        return ref
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise UsageError(f"{name} is {type(value).__name__}; give a name, a path or a Checkpoint")
    return value


def _value(known: Known, value: Any) -> Any:
    """The value of one option, as its dataclass takes it; UsageError where it cannot be."""
    if known.is_list:
        entries = [value] if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable) else value
        made: Any = tuple(_entry(known, entry) for entry in entries)
    else:
        made = _entry(known, value)
    if (problem := fault(known, made)) is not None:
        raise UsageError(f"{known.name} {shown(made)} {problem}")
    return made


def _entry(known: Known, value: Any) -> Any:
    if known.option.parse is not None and isinstance(value, str | os.PathLike):
        try:
            return known.option.parse(os.fspath(value))
        except ValueError as error:
            mend = known.option.hint or f"give {known.option.metavar}"
            raise UsageError(f"{known.name} {shown(value)} cannot be read; {mend}") from error
    if known.kind is Path and isinstance(value, str | os.PathLike):
        return Path(value)
    if known.kind is str and (isinstance(value, os.PathLike) or hasattr(value, "ref")):
        return reference(value, known.name)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):  # of numpy too, as sweeps have them
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value
