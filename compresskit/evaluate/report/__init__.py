"""The formats of a report: one file each, and one line in `RENDERERS`.

A renderer takes a `Report` and returns what `console.out` takes: a text, or something that rich lays out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from compresskit.errors import UsageError
from compresskit.evaluate.report import csv, json, junit, markdown, table
from compresskit.evaluate.row import Report

if TYPE_CHECKING:
    from rich.console import RenderableType

RENDERERS: Mapping[str, Callable[[Report], RenderableType]] = {
    "table": table.render,
    "json": json.render,
    "markdown": markdown.render,
    "csv": csv.render,
    "junit": junit.render,
}


def check_format(name: str) -> None:
    """UsageError where there is no format `name`."""
    if name not in RENDERERS:
        raise UsageError(f"--format {name} is not one of {', '.join(RENDERERS)}")


def render(report: Report, name: str) -> RenderableType:
    """`report` in the format `name`; UsageError where there is no such format."""
    check_format(name)
    return RENDERERS[name](report)
