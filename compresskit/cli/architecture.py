"""The flags of models that are built from their training data, made from the fields of their settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Annotated, Any, Literal, get_type_hints

import typer

from compresskit.cli import settings
from compresskit.models.architecture import ARCHITECTURES, Architecture

PANEL = f"A model that is built ({', '.join(ARCHITECTURES)})"


def with_architecture(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose parameter `architecture`, a dict of settings by name, stands as one flag for each in its help."""

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        built = {name: given.pop(name) for name in flags}
        verb(**given, architecture=built)

    flags = _flags()
    own = inspect.signature(verb, eval_str=True)
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in own.parameters.values() if p.name != "architecture"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in flags.items()
    ]
    run.__signature__ = own.replace(parameters=parameters + added)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters + added}
    return run


def _flags() -> dict[str, Any]:
    """The annotation of every setting's flag, by its name, over all architectures."""
    return {
        item.name: _annotation(item, get_type_hints(kind)[item.name])
        for kind in ARCHITECTURES.values()
        for item in fields(kind)
    }


def _annotation(item: Field[Any], kind: type) -> Any:
    choices = item.metadata["choices"]
    option = typer.Option(
        help=item.metadata["help"],
        show_default=item.metadata["shown"],
        rich_help_panel=PANEL,
        metavar=_metavar(kind, choices),
    )
    return Annotated[(Literal[choices] if choices else kind) | None, option]


def _metavar(kind: type, choices: tuple[str, ...]) -> str | None:
    """None leaves the choices or the switch to typer."""
    return None if choices or kind is bool else {int: "N", float: "X"}.get(kind, "FILE")


def chosen(model: str, given: Mapping[str, Any]) -> Architecture | None:
    """The settings of a model that is built; None for any other, with which their flags are a UsageError."""
    kind = ARCHITECTURES.get(model)
    if kind is not None:
        return kind.choose(**given)
    built = " or ".join(ARCHITECTURES)
    settings.refuse_unused(
        {"--" + name.replace("_", "-"): value for name, value in given.items()},
        f"with {model}, which is not built from its training data ({built} is)",
    )
    return None
