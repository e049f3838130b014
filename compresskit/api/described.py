"""What `help()` and a notebook tell of a function that takes options: each keyword, its default, what it says."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, TypeVar

from compresskit.options import Known, options_of
from compresskit.recipe.verbs import VERBS

Call = TypeVar("Call", bound=Callable[..., Any])

_FLAG = re.compile(r"(?<![\w-])--(?:no-)?([a-z][a-z0-9-]*)")
_WIDTH = 110


def options_of_verb(name: str) -> Mapping[str, Known]:
    """The options that `ck.<name>` takes, by the names of their fields; all of the verb's but the model."""
    verb = VERBS[name]
    known = {field: each for kind in verb.kinds for field, each in options_of(kind).items()}
    return {field: each for field, each in {**known, **verb.options}.items() if field != "model"}


def of_options(known: Callable[[], Mapping[str, Known]]) -> Callable[[Call], Call]:
    """A decorator that adds the options `known` to a function's signature and docstring, each as a keyword.

    The function stays the same for whoever checks types: its own annotation names a `TypedDict` of them.
    """

    def decorate(call: Call) -> Call:
        own = inspect.signature(call)
        options = known()
        fixed = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = {each.name for each in fixed}
        more = [_parameter(each) for name, each in options.items() if name not in taken]
        call.__signature__ = own.replace(parameters=[*fixed, *more])  # type: ignore[attr-defined]
        told = [_told(each) for name, each in options.items() if name not in taken]
        call.__doc__ = "\n".join([inspect.cleandoc(call.__doc__ or ""), "", "Keywords:", *told])
        return call

    return decorate


def _parameter(known: Known) -> inspect.Parameter:
    default = inspect.Parameter.empty if known.default is MISSING else known.default
    return inspect.Parameter(known.name, inspect.Parameter.KEYWORD_ONLY, default=default)


def _told(known: Known) -> str:
    default = default_of(known)
    text = as_keywords(known.option.help) + (f" Default: {default}." if default else "")
    return textwrap.fill(f"{known.name}: {text}", _WIDTH, initial_indent="    ", subsequent_indent="        ")


def default_of(known: Known) -> str:
    """The default of an option in words; "" where it stands for "nothing"."""
    if known.option.shown is not None and known.kind is not bool:
        return as_keywords(known.option.shown)
    return "" if known.default in (None, (), MISSING) else str(known.default)


def as_keywords(text: str) -> str:
    """A help text with the names of keywords in the place of flags: `--max-steps` is `max_steps`."""
    text = text.replace(" May be repeated.", "").replace("Fail (exit code 1)", "Fail")
    return _FLAG.sub(lambda found: f"`{_names().get(found[1], found[1].replace('-', '_'))}`", text)


@functools.cache
def _names() -> Mapping[str, str]:
    """The fields whose flag is called otherwise, by their flag without dashes."""
    from compresskit.evaluate.config import PARTS

    kinds = {kind for verb in VERBS.values() for kind in verb.kinds} | set(PARTS)
    found = {name: each for kind in kinds for name, each in options_of(kind).items()}
    return {each.option.flag.removeprefix("--"): name for name, each in found.items() if each.option.flag}
