"""What 8 bits cost of each matrix, against finite differences of the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compresskit.errors import InputError
from compresskit.methods.quantize.calibration import gathered
from compresskit.methods.quantize.sensitivity import largest_inputs, sensitivities
from compresskit.models.int8 import LEVELS, dequantize, quantize
from compresskit.models.kinds import int8
from compresskit.models.loaded import TrainableModel
from tests.methods.quantize.test_calibration import config, opened
from tests.methods.quantize.test_int8 import FAMILIES


def loss(loaded: TrainableModel, batch: dict[str, Tensor]) -> float:
    with torch.no_grad():
        choices = loaded.task.choices(loaded.model, batch)
        return float(nn.functional.cross_entropy(choices.logits.double(), choices.labels, reduction="sum"))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_sensitivities_are_slopes_towards_the_rounded_weights(family: str, tmp_path: Path) -> None:
    """By finite differences of the loss along each error, one window after the other.

    They are rough: logits are rounded to fp32, and a step can cross the bend of a ReLU or a maximum.
    """
    loaded = opened(family, tmp_path)
    loaded.model.eval().double()
    batches = gathered(loaded, config(tmp_path)).batches[:3]
    names = int8.quantizable(loaded)
    expected = {}
    for name in names:
        weight = loaded.model.get_parameter(name).data
        before, error = weight.clone(), (dequantize(*quantize(weight)).double() - weight) / 8
        slopes = []
        for batch in batches:
            weight.copy_(before + error)
            ahead = loss(loaded, batch)
            weight.copy_(before - error)
            slopes.append((ahead - loss(loaded, batch)) * 4)
            weight.copy_(before)
        expected[name] = sum(slope**2 for slope in slopes) / len(slopes) / 2
    found = sensitivities(loaded, names, batches, {})
    largest = max(expected.values())
    assert largest > 0
    assert found == {name: pytest.approx(cost, rel=0.15, abs=1e-3 * largest) for name, cost in expected.items()}


def test_rounded_inputs_count(tmp_path: Path) -> None:
    """A layer whose inputs have an outlier costs more with them rounded, by one scale for all the most."""
    loaded = opened("encoder", tmp_path)
    name = "bert.encoder.layer.1.intermediate.dense"
    batches = gathered(loaded, config(tmp_path)).batches
    with torch.no_grad():
        norm: Any = loaded.model.get_submodule("bert.encoder.layer.1.attention.output.LayerNorm")
        norm.bias[3] += 40.0
    scale = largest_inputs(loaded, [name], batches)[name].max().reshape(1) / LEVELS
    kinds: list[dict[str, Tensor | None]] = [{}, {name: None}, {name: 4 * scale}]
    costs = [sensitivities(loaded, [f"{name}.weight"], batches, inputs)[f"{name}.weight"] for inputs in kinds]
    assert costs[0] < costs[1] < costs[2]


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    loaded = opened("encoder", tmp_path)
    with torch.no_grad():
        loaded.model.get_parameter("qa_outputs.bias").fill_(float("inf"))
    with pytest.raises(InputError, match=r"the loss of .* is not a number"):
        sensitivities(loaded, int8.quantizable(loaded), gathered(loaded, config(tmp_path)).batches, {})
