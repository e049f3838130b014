"""Parameters: plain, tied, masked, adapted and quantized."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compresskit.models.counting import count
from compresskit.models.kind import ParameterCount
from compresskit.models.registry import load
from tests.models import adapters, tiny


class Masked(nn.Module):
    """A mask over a weight, made from scores that learn."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (self.scores > 0)


def test_plain_parameters() -> None:
    linear, norm = nn.Linear(3, 4), nn.LayerNorm(4)
    model = nn.Sequential(linear, norm)
    with torch.no_grad():
        linear.weight.fill_(1.0)
        linear.weight[0] = 0.0
    norm.requires_grad_(False)
    # LayerNorm's weight is ones and its bias zeros; the linear bias is random, so not zero.
    assert count(model) == ParameterCount(12 + 4 + 8, 9 + 4 + 4, 16)


def test_tied_parameters_count_once() -> None:
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    assert count(nn.ModuleList([embedding, head])).total == 15


@pytest.mark.parametrize(("scores_learn", "trainable"), [(True, 12 + 4), (False, 4)])
def test_masked_weight_counts_as_its_effective_weight(scores_learn: bool, trainable: int) -> None:
    layer = nn.Linear(3, 4)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    scores = -torch.ones(4, 3)
    scores[:, 0] = 1.0
    parametrize.register_parametrization(layer, "weight", Masked(scores))
    layer.get_submodule("parametrizations.weight").requires_grad_(False)
    if scores_learn:
        layer.get_submodule("parametrizations.weight.0").requires_grad_(True)
    assert count(layer) == ParameterCount(16, 4 + 4, trainable)


def test_shared_masked_module_counts_once_and_merging_changes_nothing() -> None:
    layer = nn.Linear(3, 4, bias=False)
    parametrize.register_parametrization(layer, "weight", Masked(torch.tensor([1.0, -1.0, 1.0]).expand(4, 3)))
    model = nn.ModuleDict({"one": layer, "two": nn.Sequential(layer)})
    before = count(model)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    assert before == count(model) == ParameterCount(12, 8, 12)


# Adapters.


def test_an_adapter_adds_its_matrices_to_those_of_the_base(tmp_path: Path) -> None:
    """Two matrices for each of the 2 × 2 layers; the head takes the place of the base's."""
    base = tiny.save("bert", tmp_path / "base")
    config = LoraConfig(r=3, target_modules=["query", "value"], task_type="QUESTION_ANS")
    adapters.make(base, tmp_path / "adapter", config)
    plain = count(load(str(base), device="cpu").model)
    adapted = count(load(str(tmp_path / "adapter"), device="cpu").model)
    added = 4 * 2 * 3 * 16
    assert plain.total is not None
    assert plain.nonzero is not None
    assert (adapted.total, adapted.nonzero) == (plain.total + added, plain.nonzero + added)


# Quantized weights.


def zeroed() -> nn.Linear:
    """64 × 128 weights of which the first 16 rows, a quarter, are zero; no other is small beside its block."""
    layer = nn.Linear(128, 64)
    with torch.no_grad():
        layer.weight.copy_(torch.where(torch.rand(64, 128) < 0.5, -1.0, 1.0) * (0.5 + torch.rand(64, 128) / 2))
        layer.weight[:16] = 0
        layer.bias.fill_(1)
    return layer


QUANTIZED: dict[str, Any] = {
    "nf4": lambda: Linear4bit(128, 64, quant_type="nf4", compress_statistics=False),
    "nf4, scales too": lambda: Linear4bit(128, 64, quant_type="nf4", compress_statistics=True),
    "fp4": lambda: Linear4bit(128, 64, quant_type="fp4", compress_statistics=False),
    "stored as bfloat16": lambda: Linear4bit(128, 64, quant_type="nf4", quant_storage=torch.bfloat16),
    "int8": lambda: Linear8bitLt(128, 64, has_fp16_weights=False),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_weights_count_one_by_one(name: str) -> None:
    layer = QUANTIZED[name]()
    layer.load_state_dict(zeroed().state_dict())
    layer = layer.to("cpu").eval().requires_grad_(False)  # quantizes
    assert layer.weight.dtype != torch.float32
    expected = ParameterCount(64 * 128 + 64, 48 * 128 + 64, 0)
    assert count(layer) == expected
    with torch.inference_mode():
        layer(torch.randn(1, 128))
    assert count(layer) == expected, "some CPUs repack the weights on the first forward"


class Packed(nn.Module):
    """A layer as GPTQ leaves it, in a model that transformers marks so."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.quantization_method = method
        self.qweight = nn.Parameter(torch.ones(4, 4, dtype=torch.int32), requires_grad=False)


def test_weights_that_cannot_be_told_are_not_counted() -> None:
    assert count(Packed("gptq")) == ParameterCount(None, None, None)


class Compressed(nn.Module):
    """A layer as compressed-tensors leaves it, before and after the first forward."""

    def __init__(self, *, packed: bool) -> None:
        super().__init__()
        self.quantization_method = "compressed-tensors"
        self.quantization_scheme = "W8A16"
        self.bias = nn.Parameter(torch.ones(4))
        self.weight_scale = nn.Parameter(torch.ones(4, 1))
        self.weight_shape = nn.Parameter(torch.tensor([4, 8]), requires_grad=False)
        if packed:
            self.weight_packed = nn.Parameter(torch.ones(4, 2, dtype=torch.int32), requires_grad=False)
        else:
            self.weight = nn.Parameter(torch.eye(4, 8), requires_grad=False)


def test_scales_and_shapes_are_no_weights() -> None:
    assert count(Compressed(packed=True)) == ParameterCount(None, None, None)
    assert count(Compressed(packed=False)) == ParameterCount(32 + 4, 4 + 4, 4)
