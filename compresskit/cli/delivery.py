"""What becomes of a report: files, the summary of a CI job, the terminal, and the exit code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compresskit.cli import options as flags
from compresskit.errors import GateFailed, UsageError

if TYPE_CHECKING:
    from compresskit.evaluate.row import Report

Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="RULE",
        help="Fail (exit code 1) unless every row but the baseline holds it: 'em>=base-1', 'size<=0.3x', "
        "'latency<=20ms'. May be repeated.",
    ),
]
GateCi = Annotated[
    bool | None,
    typer.Option("--gate-ci", help="The worse end of the 95 % interval has to hold the gates on EM and F1."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="What is printed: table, json, markdown, csv or junit.",
        show_default="table",
        rich_help_panel=flags.OUTPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write the JSON there too.", rich_help_panel=flags.OUTPUT),
]
JUnit = Annotated[
    Path | None,
    typer.Option(
        "--junit", metavar="FILE", help="Write the gates' verdicts as JUnit XML.", rich_help_panel=flags.OUTPUT
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", help="Write a page with everything, in one file.", rich_help_panel=flags.OUTPUT
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw EM against bytes and latency (.png, .svg).", rich_help_panel=flags.OUTPUT
    ),
]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a report goes: ``format`` is what is printed, the rest are files, None for those not wanted.

    Raises UsageError for an unknown format, and for a file that cannot come to be: before anything is measured.
    """

    format: str
    output: Path | None
    junit: Path | None
    html: Path | None
    plot: Path | None

    def __post_init__(self) -> None:
        from compresskit.evaluate.report import check_format, plot

        check_format(self.format)
        for name in ("output", "junit", "html", "plot"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.parent.is_dir():
                raise UsageError(f"--{name} {path}: there is no folder {path.parent}; make it first")
            if path is not None and path.is_dir():
                raise UsageError(f"--{name} {path}: is a folder; give the name of a file in it")
        if self.plot is not None:
            plot.check(self.plot)

    def deliver(self, report: Report) -> None:
        """Write and print the report; of the processes of a launcher, the first one does."""
        from compresskit import console
        from compresskit.checkpoint.store import write_text
        from compresskit.evaluate.report import html, json, junit, markdown, plot, render
        from compresskit.evaluate.shard import Shard

        if Shard.from_environment().rank:
            return
        if self.output is not None:
            write_text(self.output, f"{json.render(report)}\n")
        if self.junit is not None:
            write_text(self.junit, f"{junit.render(report)}\n")
        if self.html is not None:
            write_text(self.html, html.render(report))
        if self.plot is not None:
            plot.save_plot(report, self.plot)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(f"{markdown.render(report)}\n")
        console.out(render(report, self.format))


def require_gates(report: Report) -> None:
    """GateFailed, naming rule, row, figure and limit, where a gate did not hold."""
    from compresskit.evaluate.gate import explain

    if failed := [explain(verdict) for verdict in report.gates if not verdict.passed]:
        raise GateFailed("; ".join(failed))
