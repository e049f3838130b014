"""Weights in 8 bits on a GPU: the same as on a CPU, in either arithmetic and every number format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from compresskit.models.int8 import Int8Linear, dequantize, quantize
from compresskit.models.registry import load
from tests import tiny
from tests.methods.quantize.test_int8 import FAMILIES, answers, base_of, packed

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.mark.parametrize("activations", ["int8", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_says_the_same_on_both_devices(family: str, activations: Any, tmp_path: Path) -> None:
    folder = packed(base_of(family, tmp_path / "base"), tmp_path / "out", activations)
    examples = tiny.examples(8)
    there, here = (answers(load(str(folder), device=device), examples) for device in ("cuda", "cpu"))
    for one, two in zip(there, here, strict=True):
        assert one.null_score == pytest.approx(two.null_score, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 16, 17, 158, 300])
@pytest.mark.parametrize("sides", [(64, 48), (60, 44), (64, 1024)])
def test_a_linear_layer(sides: tuple[int, int], rows: int, dtype: torch.dtype) -> None:
    """Few rows, and sides that no product of codes takes, go by the weights turned into numbers."""
    torch.manual_seed(0)
    weight, inputs, bias = torch.randn(sides), torch.randn(rows, sides[1]), torch.nn.Parameter(torch.randn(sides[0]))
    expected = functional.linear(inputs, dequantize(*quantize(weight)), bias)
    layer = Int8Linear(*quantize(weight), bias).cuda().to(dtype)  # the bias moves along
    layer.weight_scale = layer.weight_scale.float()
    found = layer(inputs.cuda().to(dtype)).float().cpu()
    torch.testing.assert_close(found, expected, atol=0.02 * float(expected.abs().max()), rtol=0.02)
