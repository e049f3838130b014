"""Figure 3: Mamba's block with the shapes of Mamba-130M, and on which path a layer is called or its weight is read."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import MambaConfig, MambaForCausalLM

from docs.concepts.figures.svg import Sheet

LAYERS = ("in_proj", "x_proj", "dt_proj", "out_proj")
"""Those that adapters are put on."""


@dataclass(frozen=True)
class Path:
    """A way of computing the block: whose layers hold the adapters, when, and which weights are read, not called."""

    whose: str
    when: tuple[str, str]
    reads: frozenset[str]
    seen: bool
    """Whether a weight that is read has its adapter in it."""


PATHS: Mapping[str, Path] = {
    "unfused": Path("PEFT's layers", ("without", "fused kernel"), frozenset({"dt_proj"}), False),
    "fused": Path("PEFT's layers", ("with", "fused kernel"), frozenset({"x_proj", "dt_proj", "out_proj"}), False),
    "own": Path("compresskit's layers", ("without", "fused kernel"), frozenset(), True),
    "own fused": Path(
        "compresskit's layers", ("with", "fused kernel"), frozenset({"x_proj", "dt_proj", "out_proj"}), True
    ),
}

_BOX, _WIDTH, _HEIGHT = 84.0, 180.0, 38.0
_TOP, _ROW = 124.0, 60.0
_FIRST, _COLUMN, _CELL = 318.0, 108.0, 98.0
_FOOT = (
    "Blue: what can be adapted. The fused kernel is mamba-ssm's, and runs in training on a GPU; without it are",
    "evaluation and the CPU. PEFT refuses out_proj, since its own adapter there would not learn.",
)


@functools.cache
def mamba_130m() -> MambaForCausalLM:
    """A model of Mamba-130M's shape, without numbers."""
    with torch.device("meta"):
        return MambaForCausalLM(MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24))


def shape(name: str) -> Sequence[int]:
    """Of a parameter of one block's mixer."""
    return tuple(mamba_130m().get_parameter(f"backbone.layers.0.mixer.{name}").shape)


def figure() -> Sheet:
    """The block on the left, and on the right a column for each path."""
    told = "; ".join(f"{path.whose}, {' '.join(path.when).strip()}: {_told(path)}" for path in PATHS.values())
    sheet = Sheet(760, 614, f"Mamba's block, and where an adapter is lost. {told}.")
    sheet.text(20, 30, "Mamba-130M's block, and who sees an adapter", "head")
    _draw_block(sheet)
    _draw_paths(sheet)
    return sheet


def _told(path: Path) -> str:
    lost = [layer for layer in LAYERS if layer in path.reads and not path.seen]
    return f"lost on {', '.join(lost)}" if lost else "seen everywhere"


def _rows() -> Sequence[tuple[str, str, str]]:
    """Name of each part, what stands beside it, and what goes out of it."""

    def size(name: str) -> str:
        return " × ".join(f"{side:,}" for side in shape(name))

    inner, state = shape("A_log")
    rank = shape("dt_proj.weight")[1]
    kernel = shape("conv1d.weight")[-1]
    return (
        ("in_proj", size("in_proj.weight"), f"x and z, {inner:,} each"),
        ("conv1d, silu", f"{inner:,} × {kernel}", f"x, {inner:,}"),
        ("x_proj", size("x_proj.weight"), f"dt {rank}, B {state}, C {state}"),
        ("dt_proj, softplus", size("dt_proj.weight"), f"dt, {inner:,}"),
        ("scan with A, D", f"{inner:,} × {state}", f"y, {inner:,}"),
        ("gate", "y · silu(z)", f"{inner:,}"),
        ("out_proj", size("out_proj.weight"), f"{shape('out_proj.weight')[0]}, added to the input"),
    )


def _draw_block(sheet: Sheet) -> None:
    middle, z = _BOX + _WIDTH / 2, _BOX - 40
    sheet.line(((middle, _TOP - 22), (middle, _TOP)), "flow", arrow=True)
    sheet.text(middle + 8, _TOP - 10, f"{shape('out_proj.weight')[0]}, after a norm", "note")
    for number, (name, beside, out) in enumerate(_rows()):
        y = _TOP + number * _ROW
        role = "box accent" if name.split(",")[0] in LAYERS else "box"
        sheet.box(_BOX, y, _WIDTH, _HEIGHT, role)
        sheet.text(middle, y + 16, name, "text", "middle")
        sheet.text(middle, y + 31, beside, "note", "middle")
        sheet.line(((middle, y + _HEIGHT), (middle, y + _ROW)), "flow", arrow=True)
        sheet.text(middle + 8, y + _HEIGHT + 15, out, "note")
    start, end = _TOP + _HEIGHT / 2, _TOP + 5 * _ROW + _HEIGHT / 2
    sheet.line(((_BOX, start), (z, start), (z, end), (_BOX, end)), "flow", arrow=True)
    sheet.text(z - 8, (start + end) / 2, "z", "text", "end")


def _draw_paths(sheet: Sheet) -> None:
    names = [name.split(",")[0] for name, _, _ in _rows()]
    for column, path in enumerate(PATHS.values()):
        left = _FIRST + column * _COLUMN
        if column % 2 == 0:
            sheet.text(left, 58, path.whose, "head")
            sheet.line(((left, 66), (left + _COLUMN + _CELL, 66)), "axis")
        for line, text in enumerate(path.when):
            sheet.text(left + _CELL / 2, 85 + 16 * line, text, "note", "middle")
        for layer in LAYERS:
            y = _TOP + names.index(layer) * _ROW
            read, lost = layer in path.reads, layer in path.reads and not path.seen
            sheet.box(left, y, _CELL, _HEIGHT, "box bad" if lost else "box good")
            sheet.text(left + _CELL / 2, y + 16, "weight read" if read else "called", "text", "middle")
            told = "adapter lost" if lost else "adapter in it" if read else "adapter seen"
            sheet.text(left + _CELL / 2, y + 31, told, "note bad" if lost else "note good", "middle")
    for name in ("conv1d", "scan with A", "gate"):
        y = _TOP + names.index(name) * _ROW + _HEIGHT / 2 + 4
        sheet.text(_FIRST, y, "no adapter here", "note")
    foot = _TOP + len(names) * _ROW + 24
    for line, text in enumerate(_FOOT):
        sheet.text(20, foot + 18 * line, text, "note")
