"""`compresskit gates`: limits that a saved report gives reason for."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

import typer

from compresskit.cli.flags import with_flags
from compresskit.options import OUTPUT, check, option

gates = typer.Typer(name="gates", help="Derive gates from what was measured, each with its reason.")


@dataclass(frozen=True, slots=True)
class DeriveOptions:
    """From which report gates are derived, for which rows, how sure, and where they go."""

    report: Path = option(MISSING, "What `compresskit eval -o` wrote.", metavar="REPORT", argument=True)
    rows: tuple[str, ...] = option(
        (),
        "Derive gates that this row holds. May be repeated: then the weakest limit counts.",
        flag="--row",
        metavar="NAME",
        shown="all but the baseline",
    )
    sure: float = option(
        0.95, "Probability with which a re-run holds a gate.", metavar="P", above=0.5, below=1.0, shown="0.95"
    )
    output: Path | None = option(
        None,
        "The project's file to write: YAML, or TOML for pyproject.toml, by its ending.",
        short="-o",
        metavar="FILE",
        shown="YAML, printed",
        panel=OUTPUT,
    )
    overwrite: bool = option(False, "Replace FILE, if it is one of derived gates.", panel=OUTPUT)

    def __post_init__(self) -> None:
        check(self)


@gates.command()
@with_flags()
def derive(options: DeriveOptions) -> None:
    """Propose limits that a re-run holds and a real loss fails, from a saved report."""
    from compresskit import console
    from compresskit.evaluate.derive.proposing import propose
    from compresskit.evaluate.derive.source import read_source
    from compresskit.evaluate.derive.writing import check_target, render, write
    from compresskit.text import counted

    if options.output is not None:
        check_target(options.output, [options.report], overwrite=options.overwrite)
    proposed = propose(read_source(options.report, options.rows), options.sure)
    if options.output is None:
        console.out(render(proposed).rstrip("\n"))
        return
    write(proposed, options.output)
    console.info(f"{options.output} holds {counted(len(proposed.gates), 'gate')}, each with its reason")
