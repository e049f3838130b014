"""Flags from options: a verb takes dataclasses of options, and its command line has a flag for each of their fields.

::

    @with_flags(epochs="3")
    def train(options: TrainingOptions, plan: Plan = False) -> None: ...

becomes a command with `--epochs`, `--batch-size`, … and `--plan`; the verb gets a `TrainingOptions`. The keywords of
`with_flags` are defaults as the help tells them, for fields that are None until more is known.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Annotated, Any

import typer

from compresskit.options import Known, Option, from_text, options_of, range_of


@dataclass(frozen=True, slots=True)
class Settings:
    """Marks a verb's parameter that gets the values given of the options of `kinds`, as a dict without the others.

    All of their flags are None until they are given; the help lists them under `panel`, or each under its own.
    """

    kinds: Sequence[type]
    panel: str | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """What makes the value of one of the verb's parameters from those of its flags."""

    flags: Mapping[str, inspect.Parameter]
    make: Callable[..., Any]


def with_flags(**shown: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that expands a verb's parameters of option dataclasses (and `Settings`) into one flag for each field.

    Raises TypeError where two of them have a field of one name.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(verb, eval_str=True)
        sources, flags = _expanded(signature, shown)

        @functools.wraps(verb)
        def run(**given: Any) -> None:
            made = {name: source.make(**{flag: given.pop(flag) for flag in source.flags}) for name, source in sources}
            verb(**made, **given)

        run.__signature__ = signature.replace(parameters=flags)  # type: ignore[attr-defined]
        run.__annotations__ = {flag.name: flag.annotation for flag in flags}
        return run

    return decorate


def _expanded(
    signature: inspect.Signature, shown: Mapping[str, str]
) -> tuple[list[tuple[str, _Source]], list[inspect.Parameter]]:
    """Which parameters are made from flags, and all flags of the command, arguments first."""
    sources: list[tuple[str, _Source]] = []
    flags: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        source = _source(parameter.annotation, shown)
        if source is None:
            flags.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            sources.append((parameter.name, source))
            flags += source.flags.values()
    names = [flag.name for flag in flags]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"two options are called {min(twice)}")
    return sources, flags


def _source(annotation: Any, shown: Mapping[str, str]) -> _Source | None:
    for marker in getattr(annotation, "__metadata__", ()):
        if isinstance(marker, Settings):
            known = {name: each for kind in marker.kinds for name, each in options_of(kind).items()}
            flags = {name: _parameter(_optional(each, marker.panel), shown) for name, each in known.items()}
            return _Source(flags, _given)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and options_of(annotation):
        flags = {name: _parameter(each, shown) for name, each in options_of(annotation).items()}
        return _Source(flags, functools.partial(_made, annotation))
    return None


def _given(**values: Any) -> dict[str, Any]:
    """What was given; a list of nothing was not."""
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return {name: value for name, value in lists.items() if value not in (None, ())}


def _made(kind: type, /, **values: Any) -> Any:
    known = options_of(kind)
    given = {name: value for name, value in values.items() if value is not None or known[name].option.parse is None}
    return kind(**{name: tuple(value or ()) if known[name].is_list else value for name, value in given.items()})


def _optional(known: Known, panel: str | None) -> Known:
    """An option that is None until it is given; the help tells its own default."""
    own = dataclasses.replace(
        known.option,
        panel=panel or known.option.panel,
        shown=known.option.shown or (str(known.default) if _is_told(known) else None),
        negatable=known.kind is bool,
    )
    return dataclasses.replace(known, default=None, option=own)


def _parameter(known: Known, shown: Mapping[str, str]) -> inspect.Parameter:
    """The parameter that typer makes a flag or an argument of.

    Typer is told of no bounds and choices: `compresskit.options.check` has them, and the message about a wrong one.
    """
    own = known.option
    told: Any = shown.get(known.name) or own.shown or (known.default is not MISSING and _is_told(known))
    common: dict[str, Any] = {"help": own.help, "metavar": _metavar(own), "show_default": told}
    is_plain = own.parse is None and known.kind not in (int, float)
    if not is_plain:
        common["parser"] = functools.partial(from_text, known)
    if own.choices:
        common["autocompletion"] = _offered(own.choices)
    if own.argument:
        made: Any = typer.Argument(**common)
    else:
        made = typer.Option(*_names(known), **common, rich_help_panel=own.panel)
    default = inspect.Parameter.empty if known.default is MISSING else known.default
    if known.default is not MISSING and (known.is_list or own.parse is not None):
        default = None  # what is not a plain value is not given to typer; `_made` leaves it to the dataclass
    return inspect.Parameter(
        known.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[_annotation(known), made]
    )


def _is_told(known: Known) -> bool:
    """Whether the help tells a default: not where it stands for "nothing", or is a switch that is off."""
    return known.default not in (None, ()) and known.default is not False


def _metavar(own: Option) -> str | None:
    """What stands for the value in the help: its choices, or its name and its bounds."""
    if own.choices:
        return f"<{'|'.join(own.choices)}>"
    return f"{own.metavar} [{bounds}]" if (bounds := range_of(own)) else own.metavar


def _offered(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """What tells a shell the choices for what is typed so far (typer asks for a function of its own)."""

    def beginning(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return beginning


def _names(known: Known) -> list[str]:
    """The flags by name: a plain switch has only that for yes, one that is `negatable` has a flag for no too."""
    no = f"/--no-{known.flag.removeprefix('--')}" if known.option.negatable else ""
    name = known.flag + no
    return [known.option.short, name] if known.option.short else [name]


def _annotation(known: Known) -> Any:
    """The type as typer takes it: None allowed where that is the default, a text for all that has choices."""
    kind: Any = known.kind if isinstance(known.kind, type) else str
    if known.is_list:
        kind = list[kind]
    is_none = known.default is not MISSING and (
        known.default is None or known.is_list or known.option.parse is not None
    )
    return kind | None if is_none else kind
