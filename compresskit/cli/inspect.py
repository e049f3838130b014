"""`compresskit inspect`: what is in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.cli.flags import with_flags
from compresskit.options import option

if TYPE_CHECKING:
    from rich.table import Table

    from compresskit.models.kind import Contents, Matrix
    from compresskit.models.source import Source


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """Which checkpoint is looked into, and the file of the heat map."""

    checkpoint: str = option(MISSING, "A checkpoint folder, alias or Hub id.", metavar="CKPT", argument=True)
    plot: Path | None = option(
        None, "Draw the remaining weights as a heat map (.png or .svg; needs the extra plot).", metavar="FILE"
    )


@with_flags()
def inspect(options: InspectOptions) -> None:
    """Show kind, lineage, bytes and the remaining weights of every matrix."""
    from compresskit import console
    from compresskit.evaluate.heatmap import plot_remaining
    from compresskit.models.kinds import kind_of
    from compresskit.models.source import resolve

    source = resolve(options.checkpoint)
    kind = kind_of(source)
    found = kind.contents(source)
    console.out(_summary(source, kind.name, found))
    if found.matrices:
        console.out(_table(found.matrices))
    if options.plot is not None:
        plot_remaining(source.path.resolve().name, found.matrices, options.plot)
        console.info(f"drew {options.plot}")


def _summary(source: Source, kind: str, found: Contents) -> str:
    manifest = source.manifest
    lines = [f"checkpoint  {source.path}"]
    if manifest is None:
        lines += [f"kind        {kind}, of another tool (no compresskit.json)"]
    else:
        lines += [f"family      {manifest.family}", f"kind        {manifest.kind}", f"created     {manifest.created}"]
        if manifest.base is not None:
            revision = f" at {manifest.base.revision}" if manifest.base.revision else ""
            lines.append(f"base        {manifest.base.ref}{revision} (sha256 {manifest.base.sha256[:12]})")
        for number, step in enumerate(manifest.steps, start=1):
            shown = {key: value for key, value in step.metrics.items() if key in _SHOWN and value is not None}
            figures = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in shown.items()
            )
            data = f" on {step.data.path} ({step.data.questions} questions)" if step.data else ""
            lines.append(
                f"step {number}      {step.method}{data}, {step.wall_time_s:.0f} s{': ' + figures if figures else ''}"
            )
    files = sorted((path.name, path.stat().st_size) for path in source.path.iterdir() if path.is_file())
    total = sum(size for _, size in files)
    lines.append(f"bytes       {total:,} in all: " + ", ".join(f"{name} {size:,}" for name, size in files))
    lines += [f"{name:<11} {text}" for name, text in found.facts]
    return "\n".join(lines)


_SHOWN = ("train_loss", "sparsity", "head", "em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em")


def _table(matrices: Sequence[Matrix]) -> Table:
    """Layers down, matrices across: per cent of the weights that remain; the last line and column are totals."""
    from rich.table import Table

    from compresskit.models.kind import block_names

    roles = list(dict.fromkeys(matrix.role for matrix in matrices))
    table = Table(title="remaining weights, %", title_justify="left")
    for heading in ("layer", *roles, "all"):
        table.add_column(heading.replace(".", ".\n"), justify="right")
    names = block_names(matrices)
    for block in (*names, None):
        members = [matrix for matrix in matrices if block in (matrix.block, None)]
        cells = [_percent([matrix for matrix in members if role in (matrix.role, None)]) for role in (*roles, None)]
        table.add_row("all" if block is None else names[block], *cells, end_section=block == list(names)[-1])
    return table


def _percent(matrices: Sequence[Matrix]) -> str:
    """Of the weights of some matrices, per cent that remain; a dash where there are none, or they cannot be counted."""
    remaining = [matrix.remaining for matrix in matrices if matrix.remaining is not None]
    if not matrices or len(remaining) < len(matrices):
        return "–"
    return f"{100 * sum(remaining) / sum(matrix.size for matrix in matrices):.1f}"
