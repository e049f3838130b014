"""What docs/concepts/mamba.md says of the recurrence, of shapes and of bytes, where no other test shows it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compresskit.models.mamba.scan import selective_scan
from docs.concepts.figures import block, cache, prefix, recurrence

PAGE = (Path(__file__).parents[3] / "docs" / "concepts" / "mamba.md").read_text(encoding="utf-8")

Step = tuple[Tensor, Tensor]


def drawn(batch: int = 2, d: int = 3, length: int = 16, n: int = 4) -> dict[str, Any]:
    """Inputs of the scan, in float64."""
    shapes = {"x": (batch, d, length), "dt": (batch, d, length), "A": (d, n), "B": (batch, length, n)}
    found = {name: torch.randn(*shape, dtype=torch.float64) for name, shape in (shapes | {"C": shapes["B"]}).items()}
    return found | {"dt": found["dt"].exp() / 10, "A": -found["A"].exp(), "D": torch.randn(d, dtype=torch.float64)}


def then(left: Step, right: Step) -> Step:
    """First the left step, then the right one."""
    return right[0] * left[0], right[0] * left[1] + right[1]


def test_held_inputs_give_the_decay_exactly_and_the_input_to_first_order() -> None:
    """Zero-order hold solves h' = A h + B x with an x that is held for dt. Mamba takes its decay, and dt · B."""
    one, A = torch.ones(1, 1, 1, dtype=torch.float64), torch.tensor([[-3.0]], dtype=torch.float64)
    missed = []
    for dt in (0.02, 0.01, 0.005):
        many = 20_000  # Euler's method for the differential equation, in small steps
        state = 0.7
        for _ in range(many):
            state += dt / many * (float(A) * state + 2.0)
        held = math.exp(dt * float(A)) * 0.7 + (math.exp(dt * float(A)) - 1) / float(A) * 2.0
        assert held == pytest.approx(state, rel=1e-5)
        _, ours = selective_scan(2 * one, dt * one, A, one, one, torch.zeros(1).double(), state=0.7 * one)
        assert float(ours) == pytest.approx(math.exp(dt * float(A)) * 0.7 + dt * 2.0, rel=1e-12)
        missed.append(float(ours) - held)
    assert missed[0] / missed[1] == pytest.approx(4, rel=0.05)  # it falls with the square of dt
    assert missed[1] / missed[2] == pytest.approx(4, rel=0.05)


def test_steps_may_be_combined_in_any_grouping() -> None:
    """The tree of the figure gives the states of the scan, with the work and the depth that the page tells."""
    given = drawn()
    decay = torch.exp(given["dt"].unsqueeze(-1) * given["A"][:, None])
    added = (given["dt"] * given["x"]).unsqueeze(-1) * given["B"].unsqueeze(1)
    steps = list(zip(decay.unbind(2), added.unbind(2), strict=True))
    a, b, c = steps[:3]
    for one, two in zip(then(then(a, b), c), then(a, then(b, c)), strict=True):
        torch.testing.assert_close(one, two)
    levels = prefix.schedule(16)
    for level in levels:
        assert len({token for pair in level for token in pair}) == 2 * len(level)  # none waits for another
        for left, right in level:
            steps[right] = then(steps[left], steps[right])
    for length in (1, 5, 11, 16):
        cut = {name: each[..., :length] if name in "x dt" else each for name, each in given.items()}
        cut |= {name: given[name][:, :length] for name in "BC"}
        _, last = selective_scan(**cut)
        torch.testing.assert_close(steps[length - 1][1], last)
    assert (sum(map(len, levels)), len(levels)) == (2 * 16 - 2 - 4, 2 * 4 - 1)
    long = prefix.schedule(2048)
    assert f"{sum(map(len, long)):,} combinations in {len(long)} levels" in PAGE


def test_a_selected_step_keeps_what_it_was_large_for() -> None:
    """The figure's percentages: a decay is exp of the sum of the steps since."""
    dt = recurrence.steps()
    for token in recurrence.MARKED:
        expected = [math.exp(-float(row[token + 1 :].sum())) for row in dt]
        assert recurrence.left_at_the_end(token) == pytest.approx(expected, rel=1e-9)
    small, large, selected = recurrence.left_at_the_end(30)
    assert large < 0.01 < small < 0.5 < 0.9 < selected


def test_the_shapes_are_those_of_mamba_130m() -> None:
    """The rows of the page's table: name, shape, and how many numbers."""
    rows = re.findall(r"^\| `([\w.]+)` \| ([\d, ×]+) \| ([\d,]+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 9
    for name, shape, count in rows:
        sides = tuple(int(side.replace(",", "")) for side in shape.split("×"))
        assert sides == tuple(side for side in block.shape(name) if side > 1)
        assert math.prod(sides) == int(count.replace(",", ""))
    numbers = {name: parameter.numel() for name, parameter in block.mamba_130m().named_parameters()}
    mixer = "backbone.layers.0.mixer."
    assert {mixer + name for name, *_ in rows} == {name for name in numbers if name.startswith(mixer)}
    total = sum(numbers.values())
    assert f"{total:,} in all" in PAGE
    inner = sum(number for name, number in numbers.items() if ".layers.0." in name)
    big = math.prod(block.shape("in_proj.weight")) + math.prod(block.shape("out_proj.weight"))
    assert f"{100 * big / inner:.0f} % of a block" in PAGE
    parts = [("in_proj.weight", "out_proj.weight"), ("x_proj.weight",), ("dt_proj.weight",), ("embeddings.weight",)]
    shares = [sum(number for name, number in numbers.items() if name.endswith(part)) / total for part in parts]
    told = re.findall(r"^\| .* \| ([\d.]+) % \|", PAGE, re.MULTILINE)
    assert told == [f"{100 * share:.1f}" for share in (*shares, 1 - sum(shares))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_that_are_kept(dtype: torch.dtype) -> None:
    """The row of the page's table, from caches of models of these shapes; a state is in fp32 in either case."""
    width = dtype.itemsize
    assert cache.pythia_bytes(dtype) == 2 * 12 * 768 * width
    assert cache.mamba_bytes(dtype) == 24 * 1536 * (4 * width + 16 * 4)
    mamba, pythia = cache.mamba_bytes(dtype), cache.pythia_bytes(dtype)
    name = {4: "fp32", 2: "bf16"}[width]
    row = f"| {name} | {pythia:,} | {2048 * pythia:,} | {mamba:,} | {mamba // pythia} |"
    assert row in PAGE
