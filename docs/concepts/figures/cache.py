"""Figure 4: the bytes that a model keeps of what it has read, by the number of tokens."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MambaConfig, MambaForCausalLM
from transformers.cache_utils import DynamicCache

from compresskit.evaluate.report.labels import Position
from compresskit.evaluate.report.scale import Axis, cost_axis
from compresskit.evaluate.units import size
from compresskit.models.mamba.mixer import use_own_mixers
from compresskit.models.tasks.causal_memory import read
from docs.concepts.figures.svg import Sheet

MAMBA_LAYERS, PYTHIA_LAYERS, HIDDEN = 24, 12, 768
# Pythia was trained for so many.
POSITIONS = 2048
TOKENS = tuple(2**power for power in range(14))

_LEFT, _RIGHT, _TOP, _BOTTOM = 84.0, 566.0, 66.0, 346.0


@functools.cache
def mamba_bytes(dtype: torch.dtype) -> int:
    """Of Mamba-130M, after any number of tokens: one layer of its shape reads a few, and all layers are alike."""
    config = MambaConfig(vocab_size=8, hidden_size=HIDDEN, num_hidden_layers=1)
    model = MambaForCausalLM(config)
    use_own_mixers(model)
    return MAMBA_LAYERS * _kept_bytes(model, dtype, 5)


@functools.cache
def pythia_bytes(dtype: torch.dtype) -> int:
    """Of Pythia-160M, for each token."""
    shape: dict[str, Any] = {"hidden_size": HIDDEN, "num_attention_heads": 12, "intermediate_size": 4 * HIDDEN}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=8, num_hidden_layers=1, **shape))
    return PYTHIA_LAYERS * _kept_bytes(model, dtype, 5) // 5


def figure() -> Sheet:
    """Both axes are logarithmic."""
    mamba, pythia = mamba_bytes(torch.bfloat16), pythia_bytes(torch.bfloat16)
    sheet = Sheet(
        760,
        410,
        f"Bytes kept of what was read, in bf16. Pythia-160M keeps {pythia:,} for each token, Mamba-130M {mamba:,} in "
        f"all; they are equal at {mamba // pythia} tokens.",
    )
    sheet.text(20, 30, "What is kept of the tokens read, one sequence, bf16", "head")
    x = cost_axis(TOKENS, lambda value: f"{value:,.0f}")
    y = cost_axis([pythia * TOKENS[0], pythia * TOKENS[-1]], _size_tick)
    _draw_axes(sheet, x, y)
    _draw_curves(sheet, x, y, mamba, pythia)
    return sheet


@torch.no_grad()
def _kept_bytes(model: Any, dtype: torch.dtype, tokens: int) -> int:
    """Of the cache of one sequence, after it was read."""
    kept = DynamicCache(config=model.config)
    read(model.to(dtype).eval(), kept, torch.ones(1, tokens, dtype=torch.long))
    tensors = itertools.chain.from_iterable(_tensors(layer) for layer in kept.layers)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(layer: Any) -> Sequence[torch.Tensor]:
    if hasattr(layer, "keys"):
        return layer.keys, layer.values
    return *layer.conv_states.values(), *layer.recurrent_states.values()


def _draw_axes(sheet: Sheet, x: Axis, y: Axis) -> None:
    for value, told in x.ticks:
        across = _across(x, value)
        sheet.line(((across, _TOP), (across, _BOTTOM)), "grid")
        sheet.text(across, _BOTTOM + 18, told, "note", "middle")
    for value, told in y.ticks:
        down = _down(y, value)
        sheet.line(((_LEFT, down), (_RIGHT, down)), "grid")
        sheet.text(_LEFT - 8, down + 4, told, "note", "end")
    sheet.line(((_LEFT, _TOP), (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)), "axis")
    sheet.text(_RIGHT, _BOTTOM + 42, "tokens read (log scale)", "note", "end")
    sheet.text(_LEFT, _TOP - 10, "bytes (log scale)", "note")


def _draw_curves(sheet: Sheet, x: Axis, y: Axis, mamba: int, pythia: int) -> None:
    def place(tokens: float, kept: float) -> Position:
        return _across(x, tokens), _down(y, kept)

    sheet.line((place(TOKENS[0], pythia * TOKENS[0]), place(POSITIONS, pythia * POSITIONS)), "curve bad")
    sheet.line((place(POSITIONS, pythia * POSITIONS), place(TOKENS[-1], pythia * TOKENS[-1])), "curve bad beyond")
    sheet.line((place(TOKENS[0], mamba), place(TOKENS[-1], mamba)), "curve")
    equal = mamba / pythia
    sheet.dot(*place(equal, mamba), "dot accent")
    sheet.dot(*place(POSITIONS, pythia * POSITIONS), "dot bad")
    across, down = place(equal, mamba)
    sheet.text(across - 10, down - 10, f"equal at {equal:g} tokens", "note", "end")
    across, down = place(TOKENS[-1], pythia * TOKENS[-1])
    sheet.text(_RIGHT + 14, down + 8, "Pythia-160M", "text")
    sheet.text(_RIGHT + 14, down + 24, f"{pythia:,} bytes a token", "note bad")
    across, down = place(POSITIONS, pythia * POSITIONS)
    sheet.text(across + 6, down + 20, f"{size(pythia * POSITIONS)} at {POSITIONS:,}", "note")
    _, down = place(TOKENS[-1], mamba)
    sheet.text(_RIGHT + 14, down - 4, "Mamba-130M", "text")
    sheet.text(_RIGHT + 14, down + 12, f"{mamba:,} bytes in all", "note accent")
    ratio = pythia * POSITIONS / mamba
    sheet.text(_RIGHT + 14, down + 28, f"1/{ratio:.0f} of Pythia's at {POSITIONS:,}", "note")


def _size_tick(value: float) -> str:
    """Without zeros behind the point."""
    number, _, unit = size(value).partition(" ")
    return f"{float(number):g} {unit}"


def _across(x: Axis, value: float) -> float:
    return _LEFT + x.place(value) * (_RIGHT - _LEFT)


def _down(y: Axis, value: float) -> float:
    return _BOTTOM - y.place(value) * (_BOTTOM - _TOP)
