"""The global options, taken after the verb too: `compresskit train -v` is `compresskit -v train`."""

from __future__ import annotations

import functools
import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from compresskit import console
from compresskit.errors import UsageError


def set_up(*, quiet: bool, verbose: bool, color: bool) -> None:
    """Set how this process prints. UsageError where both `quiet` and `verbose` are asked for."""
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other; give one of them")
    if not color:
        # So that rich, the libraries below and the processes that a verb starts do the same.
        os.environ["NO_COLOR"] = "1"
    console.configure(quiet=quiet, verbose=verbose, color=color)


class Verb(TyperCommand):
    """A verb's command, which takes the global options beside its own; its help leaves them to that of the program."""

    def get_params(self, ctx: Any) -> Any:
        """What can be typed behind the verb; a letter that is one of its own options stays that."""
        own = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        return [*super().get_params(ctx), *(flag for flag in _flags() if own.isdisjoint(flag.opts))]


@functools.cache
def _flags() -> list[Any]:
    """The global options as parameters that typer made, hidden; each letter is one by itself."""
    flags = typer.Typer(add_completion=False)

    @flags.command()
    def none(
        quiet: Annotated[bool, _hidden("--quiet", _quiet)] = False,
        q: Annotated[bool, _hidden("-q", _quiet)] = False,
        verbose: Annotated[bool, _hidden("--verbose", _verbose)] = False,
        v: Annotated[bool, _hidden("-v", _verbose)] = False,
        no_color: Annotated[bool, _hidden("--no-color", _no_color)] = False,
    ) -> None: ...

    return [param for param in typer.main.get_command(flags).params if "--help" not in param.opts]


def _hidden(name: str, then: Any) -> Any:
    return typer.Option(name, callback=then, hidden=True, expose_value=False, is_eager=True)


def _quiet(wanted: bool) -> None:
    if wanted:
        set_up(quiet=True, verbose=console.is_verbose(), color=True)


def _verbose(wanted: bool) -> None:
    if wanted:
        set_up(quiet=console.is_quiet(), verbose=True, color=True)


def _no_color(wanted: bool) -> None:
    if wanted:
        set_up(quiet=console.is_quiet(), verbose=console.is_verbose(), color=False)
