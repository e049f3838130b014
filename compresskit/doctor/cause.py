"""Whose fault an error is: the package deepest within which it arose."""

from __future__ import annotations

import sys
import traceback

_NOT_TO_BLAME = frozenset({*sys.stdlib_module_names, "compresskit", "__main__"})


def cause_of(error: BaseException) -> str | None:
    """The outermost name of the module that is missing, or within which an error arose; None where it is our own."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError) and error.name:
        return error.name.partition(".")[0]
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    tops = [str(name).partition(".")[0] for name in names]
    return next((top for top in reversed(tops) if top and top not in _NOT_TO_BLAME), None)
