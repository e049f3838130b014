"""Weights in 8 bits against plain products of what they stand for, written out."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from compresskit.models import int8
from compresskit.models.int8 import Int8Embedding, Int8Linear, dequantize, multiplies_codes, quantize


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Random weights whose rows are of unlike size, one of them zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * torch.logspace(-3, 1, rows).unsqueeze(1)
    weight[rows // 2] = 0
    return weight


def rounded(rows: Tensor) -> Tensor:
    """Each row to 255 steps of its own size; half a step up."""
    scales = rows.abs().amax(dim=1, keepdim=True) / 127
    return torch.where(scales > 0, (rows / scales + 0.5).floor() * scales, 0.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_no_weight_is_more_than_half_a_step_off(rows: int, columns: int, seed: int) -> None:
    weight = matrix(rows, columns, seed)
    codes, scales = quantize(weight)
    assert codes.dtype == torch.int8
    assert scales.shape == (rows, 1)
    off = (dequantize(codes, scales) - weight).abs()
    assert bool((off <= weight.abs().amax(dim=1, keepdim=True) / 254 * (1 + 1e-5)).all())
    again, _ = quantize(dequantize(codes, scales))
    assert torch.equal(again, codes)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activations", ["int8", "none"])
@pytest.mark.parametrize("shape", [(1, 24), (3, 5, 24), (700, 24)])
def test_a_linear_layer_multiplies_what_its_codes_stand_for(
    shape: tuple[int, ...], activations: Any, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 8 bits the inputs are rounded first; long inputs go in parts, and so do large weights."""
    monkeypatch.setattr(int8, "CHUNK", 1000)
    monkeypatch.setattr(int8, "BLOCK_ROWS", 7)
    weight, inputs = matrix(40, 24), matrix(int(torch.tensor(shape[:-1]).prod()), 24, seed=1)
    added = nn.Parameter(torch.randn(40)) if bias else None
    layer = Int8Linear(*quantize(weight), added)
    layer.activations = activations
    codes = layer.codes().clone()
    exact = rounded(inputs) if activations == "int8" else inputs
    expected = functional.linear(exact, dequantize(*quantize(weight)), added).view(*shape[:-1], 40)
    for _ in range(2):  # the first pass lays the weights out anew
        torch.testing.assert_close(layer(inputs.view(shape)), expected, atol=2e-5, rtol=2e-5)
    assert torch.equal(layer.codes(), codes)
    assert sum(p.numel() for p in layer.parameters()) == (0 if activations == "int8" else 40 * 24) + 40 * bias


@pytest.mark.parametrize("activations", ["int8", "none"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_answers_in_the_numbers_that_it_is_given(dtype: torch.dtype, activations: Any) -> None:
    weight, inputs = matrix(40, 24) / 10, torch.randn(6, 24)
    layer = Int8Linear(*quantize(weight), None)
    layer.activations = activations
    found = layer(inputs.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), functional.linear(inputs, weight), atol=0.1, rtol=0.05)


@pytest.mark.parametrize("activations", ["int8", "none"])
def test_sums_that_fp16_holds_do_not_overflow_on_the_way(activations: Any) -> None:
    """Codes are up to 127 times what they stand for. What must be precise answers in fp32."""
    weight, inputs = torch.randn(40, 768) * 0.02, torch.randn(4, 768) * 200
    layer = Int8Linear(*quantize(weight), None)
    layer.activations = activations
    assert bool(layer(inputs.half()).isfinite().all())
    layer.precise = True
    found = layer((inputs * 50).half())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, functional.linear(inputs * 50, weight), atol=200.0, rtol=0.1)


def test_numbers_that_are_none_stay_so() -> None:
    layer = Int8Linear(*quantize(matrix(40, 24)), None)
    inputs = torch.randn(3, 24)
    inputs[1, 5] = float("nan")
    for layer.activations in ("int8", "none"):
        found = layer(inputs)
        assert bool(found[1].isnan().all())
        assert bool(found[[0, 2]].isfinite().all())


def test_a_table_answers_with_its_rows() -> None:
    weight = matrix(40, 24)
    table = Int8Embedding(*quantize(weight), torch.float32)
    ids = torch.tensor([[0, 39], [20, 7]])
    assert torch.equal(table(ids), dequantize(*quantize(weight))[ids])


def test_products_of_codes_are_taken_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """With AVX2 or more, for which oneDNN has them."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for there in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda there=there: there)
        assert [multiplies_codes(cpu, wanted) for wanted in ("auto", "int8", "none")] == [there, True, False]
    assert [multiplies_codes(gpu, "auto", dtype) for dtype in (torch.float32, torch.bfloat16)] == [True, False]


WITHOUT_VNNI = """
import torch
from compresskit.models.int8 import Int8Linear, quantize
torch.cpu._is_vnni_supported = lambda: False
weight, inputs = torch.ones(32, 64), torch.ones(40, 64)  # the largest code everywhere: the sums are as large as can be
inputs[:, ::3], weight[:, 1::5] = -1.0, -1.0
for scale in (None, torch.tensor([1 / 127])):
    layer = Int8Linear(*quantize(weight), None, input_scale=scale)
    layer.activations = "int8"
    torch.testing.assert_close(layer(inputs), inputs @ weight.T, atol=1e-3, rtol=1e-5)
"""


def test_sums_do_not_saturate_without_vnni() -> None:
    """onnxruntime#6004: two products of 8 bits are summed in 16."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VNNI], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
