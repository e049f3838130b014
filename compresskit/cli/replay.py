"""`compresskit replay`: make a checkpoint again from its manifest, and compare the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compresskit.cli.flags import with_flags
from compresskit.recipe.replay_options import ReplayOptions
from compresskit.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from compresskit.recipe.likeness import Likeness, Pair

_SHOWN = 20  # tensors in the table
# Figures that depend on the machine and on what else it does.
_TIMES = ("wall_time_s", "examples_per_s", "peak_memory_bytes")


@with_flags()
def replay(options: ReplayOptions) -> None:
    """Make a checkpoint again from its manifest, and compare the two tensor by tensor; 1 where they differ."""
    from compresskit import console
    from compresskit.errors import GateFailed
    from compresskit.recipe.replay import prepared

    found = prepared(options)
    if options.plan:
        console.out("\n".join(found.plan()))
        return
    likeness = found.run()
    if options.json:
        console.out(likeness.to_json())
    else:
        _show(likeness)
    if likeness.verdict == "differs":
        raise GateFailed(f"{likeness.replay} is not {likeness.checkpoint} again: {likeness.told}; {_mend(likeness)}")


def _mend(likeness: Likeness) -> str:
    """What may make the two the same."""
    if likeness.settings or likeness.problems:
        return "look at what is told above"
    if likeness.versions or likeness.choices:
        return "take the versions and the device of then, or accept a difference with --tolerance"
    return "accept a difference with --tolerance"


def _show(likeness: Likeness) -> None:
    from compresskit import console

    for title, pairs in (("version of", likeness.versions), ("choice of", likeness.choices)):
        for name, (then, now) in pairs.items():
            console.out(f"{title} {name}: {_word(then)} then, {_word(now)} now")
    for name, (then, now) in likeness.inputs.items():
        console.out(f"the {name} has sha256 {_word(then)} then, {_word(now)} now")
    if likeness.settings:
        console.out(f"this version sets otherwise: {likeness.settings}")
    if likeness.metrics:
        console.out(_figures(likeness.metrics))
    if likeness.apart:
        console.out(_tensors(likeness))
    for file in likeness.files:
        told = file.problem or file.change
        if told:
            console.out(f"{file.name}: {told}")
    same = [file.name for file in likeness.files if file.is_same]
    console.out(f"equal byte for byte: {', '.join(same) or 'no file'}")
    console.out(f"verdict: {likeness.told}")


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _figures(metrics: Mapping[str, Pair]) -> Table:
    """The figures of both, side by side; those of time last."""
    from rich.table import Table

    table = Table(title="figures", title_justify="left")
    for heading in ("figure", "then", "now"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name in sorted(metrics, key=_TIMES.__contains__):
        table.add_row(name, *map(_word, metrics[name]))
    return table


def _tensors(likeness: Likeness) -> Table:
    """The tensors that differ, the worst first."""
    from rich.table import Table

    apart = likeness.apart
    left_out = f", the worst {_SHOWN} of them" if len(apart) > _SHOWN else ""
    table = Table(title=f"{counted(len(apart), 'tensor')} not the same{left_out}", title_justify="left")
    for heading in ("file", "tensor", "shape", "entries that differ", "largest difference", "relative"):
        # A name is never cut: it is what one looks for.
        table.add_column(heading, justify="left" if heading in ("file", "tensor") else "right", overflow="fold")
    for file, each in apart[:_SHOWN]:
        absolute = "–" if each.absolute is None else f"{each.absolute:.2g}"
        shape = "×".join(map(str, each.shape)) or "1"
        table.add_row(file, each.name, shape, f"{100 * each.share:.3g} %", absolute, f"{each.relative:.2g}")
    return table
