"""`compresskit inspect`: what is in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from compresskit.evaluate.contents import Contents


def inspect(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="A checkpoint folder, alias or Hub id.", show_default=False)
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw the remaining weights as a heat map (.png or .svg; needs the extra plot)."
        ),
    ] = None,
) -> None:
    """Show kind, lineage, bytes and the remaining weights of every matrix."""
    from compresskit import console
    from compresskit.evaluate.contents import contents, plot_remaining

    found = contents(_folder(checkpoint))
    console.out(_summary(found))
    if found.matrices:
        console.out(_table(found))
    if plot is not None:
        plot_remaining(found, plot)
        console.info(f"drew {plot}")


def _folder(checkpoint: str) -> Path:
    """The folder of a checkpoint; what is no folder may be built, which needs torch, or downloaded."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    from compresskit.models.source import resolve

    return resolve(checkpoint).path


def _summary(found: Contents) -> str:
    manifest = found.manifest
    lines = [f"checkpoint  {found.path}"]
    if manifest is None:
        lines += ["kind        plain checkpoint of another tool (no compresskit.json)"]
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
    total = sum(size for _, size in found.files)
    lines.append(f"bytes       {total:,} in all: " + ", ".join(f"{name} {size:,}" for name, size in found.files))
    if found.mask_bytes is not None and found.shannon_bytes:
        over = 100 * (found.mask_bytes / found.shannon_bytes - 1)
        lines.append(
            f"masks       {found.mask_bytes:,} bytes, header and all: {over:.1f} % over the Shannon bound of their bits"
        )
    return "\n".join(lines)


_SHOWN = ("train_loss", "sparsity", "head", "em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em")


def _table(found: Contents) -> Table:
    """Layers down, matrices across: per cent of the weights that remain; the last line and column are totals."""
    from rich.table import Table

    roles = list(dict.fromkeys(matrix.role for matrix in found.matrices))
    table = Table(title="remaining weights, %", title_justify="left")
    for heading in ("layer", *roles, "all"):
        table.add_column(heading, justify="right", no_wrap=False)
    layers = sorted({matrix.layer for matrix in found.matrices})
    for layer in (*layers, None):
        members = [matrix for matrix in found.matrices if layer in (matrix.layer, None)]
        cells = []
        for role in (*roles, None):
            here = [matrix for matrix in members if role in (matrix.role, None)]
            cells.append(_percent(sum(m.remaining for m in here), sum(m.size for m in here)))
        table.add_row("all" if layer is None else str(layer), *cells, end_section=layer == layers[-1])
    return table


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"
