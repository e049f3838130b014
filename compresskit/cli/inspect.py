"""`compresskit inspect`: what is in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.cli.flags import with_flags
from compresskit.options import option
from compresskit.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from compresskit.models.kind import Contents, Matrix
    from compresskit.models.source import Source


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """Which checkpoint is looked into, and the file of the heat map."""

    checkpoint: str = option(MISSING, "A checkpoint folder, alias or Hub id.", metavar="CKPT", argument=True)
    plot: Path | None = option(
        None,
        "Draw the remaining weights, and what 8 bits cost, as heat maps (.png or .svg; needs the extra plot).",
        metavar="FILE",
    )
    verify: bool = option(False, "Check that every file is there and unchanged, those of what it stands on too.")


@with_flags()
def inspect(options: InspectOptions) -> None:
    """Show kind, lineage, bytes, the remaining weights and the formats of every matrix, and what 8 bits cost."""
    from compresskit import console, packages
    from compresskit.checkpoint.outputs import check_file
    from compresskit.evaluate.heatmap import HeatMap, plot, remaining_weights
    from compresskit.models.kinds import check_here, kind_of, places, verify
    from compresskit.models.source import resolve

    source = resolve(options.checkpoint)
    if options.plot is not None:
        packages.require("matplotlib", what="--plot")
        check_file(options.plot, places(source), flag="--plot")
    kind = kind_of(source)
    check_here(source)
    verified = verify(source) if options.verify else []
    found = kind.contents(source)
    costs = _sensitivities(source)
    console.out(_summary(source, kind.name, found))
    for each in verified:
        console.out(f"verified    {_verified(each)}")
    if found.matrices:
        console.out(_table("remaining weights, %", found.matrices, _percent, total=True))
    if len({matrix.dtype for matrix in found.matrices}) > 1:
        console.out(_table("formats", found.matrices, _formats))
    measured = [matrix for matrix in found.matrices if matrix.name in costs]
    if measured:
        console.out(_table(_COST, measured, lambda those: _cost(costs, those), total=True))
    if options.plot is not None:
        maps = [remaining_weights(found.matrices), HeatMap(_COST, ".3g", [(m, 1e6 * costs[m.name]) for m in measured])]
        plot(source.path.resolve().name, maps, options.plot)
        console.info(f"drew {options.plot}")


_COST = "cost of 8 bits, 10⁻⁶ nats a window"


def _sensitivities(source: Source) -> Mapping[str, float]:
    """What 8 bits cost of each weight, in nats a window, by the last step that measured it."""
    for step in reversed(source.manifest.steps if source.manifest is not None else ()):
        found = step.metrics.get("sensitivities")
        if isinstance(found, dict):
            return {name: float(cost) for name, cost in found.items() if isinstance(cost, int | float)}
    return {}


def _summary(source: Source, kind: str, found: Contents) -> str:
    from compresskit.models.source import graphs_below

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
    paths = [*(path for path in source.path.iterdir() if path.is_file()), *graphs_below(source.path)]
    files = sorted((str(path.relative_to(source.path)), path.stat().st_size) for path in paths)
    total = sum(size for _, size in files)
    lines.append(f"bytes       {total:,} in all: " + ", ".join(f"{name} {size:,}" for name, size in files))
    lines += [f"{name:<11} {text}" for name, text in found.facts]
    known = {matrix.name for matrix in found.matrices}
    others = [f"{name} {1e6 * cost:.3g}" for name, cost in _sensitivities(source).items() if name not in known]
    if others:
        lines.append(f"elsewhere   {_COST}: {', '.join(others)}")
    return "\n".join(lines)


def _verified(source: Source) -> str:
    """Which files of a checkpoint were found as they were made, in words."""
    manifest = source.manifest
    if manifest is None or manifest.files is None:
        return f"{source.path}: nothing, its files are listed nowhere"
    size = sum(each.bytes for each in manifest.files.values())
    return f"{source.path}: {counted(len(manifest.files), 'file')}, {size:,} bytes"


_SHOWN = ("train_loss", "sparsity", "head", "em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em")


def _table(
    title: str, matrices: Sequence[Matrix], cell: Callable[[Sequence[Matrix]], str], *, total: bool = False
) -> Table:
    """Layers down, matrices across, and what `cell` says of those of a place; in a `total` of a line and a column."""
    from rich.table import Table

    from compresskit.models.kind import block_names

    roles: list[str | None] = list(dict.fromkeys(matrix.role for matrix in matrices))
    table = Table(title=title, title_justify="left")
    names = block_names(matrices)
    blocks: list[tuple[str, int] | None] = list(names)
    if total:
        roles.append(None)
        blocks.append(None)
    for heading in ("layer", *("all" if role is None else role for role in roles)):
        table.add_column(heading.replace(".", ".\n"), justify="right")
    for block in blocks:
        members = [matrix for matrix in matrices if block in (matrix.block, None)]
        cells = [cell([matrix for matrix in members if role in (matrix.role, None)]) for role in roles]
        table.add_row("all" if block is None else names[block], *cells, end_section=block == list(names)[-1])
    return table


def _percent(matrices: Sequence[Matrix]) -> str:
    """Of the weights of some matrices, per cent that remain; a dash where there are none, or they cannot be counted."""
    remaining = [matrix.remaining for matrix in matrices if matrix.remaining is not None]
    if not matrices or len(remaining) < len(matrices):
        return "–"
    return f"{100 * sum(remaining) / sum(matrix.size for matrix in matrices):.1f}"


def _formats(matrices: Sequence[Matrix]) -> str:
    """The number formats of some matrices; a dash where there are none."""
    return ", ".join(dict.fromkeys(matrix.dtype for matrix in matrices)) or "–"


def _cost(costs: Mapping[str, float], matrices: Sequence[Matrix]) -> str:
    """The sum of what some matrices cost; a dash where there are none."""
    return f"{1e6 * sum(costs[matrix.name] for matrix in matrices):.3g}" if matrices else "–"
