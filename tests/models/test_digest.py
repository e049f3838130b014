"""One hash for models that compute the same, however their weights are kept; another for any other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from compresskit.models.digest import weights_digest
from compresskit.models.int8 import dequantize, quantize
from compresskit.models.kinds import int8
from compresskit.models.kinds.weight_adapter import put_on
from tests import tiny

WEIGHT = "bert.encoder.layer.0.attention.self.query.weight"


def layer(model: Any) -> Any:
    return model.get_submodule(WEIGHT.rpartition(".")[0])


def test_a_copy_has_the_same_and_one_weight_makes_another() -> None:
    one, other = tiny.bert(), tiny.bert()
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other) is not None
    other.get_parameter(WEIGHT).data[0, 0] += 1e-6
    assert weights_digest(one) != weights_digest(other)


def test_saved_and_opened_in_16_bits_is_another(tmp_path: Path) -> None:
    model = tiny.bert()
    before = weights_digest(model)
    assert weights_digest(model.half()) != before


def test_an_adapter_over_a_weight_counts_as_what_it_adds() -> None:
    model, merged = tiny.bert(), tiny.bert()
    merged.load_state_dict(model.state_dict())
    adapter = put_on(WEIGHT, layer(model), 2, 1.0)
    assert weights_digest(model) == weights_digest(merged)  # B starts as zeros
    torch.nn.init.ones_(adapter.lora_B)
    assert weights_digest(model) != weights_digest(merged)
    merged.get_parameter(WEIGHT).data.copy_(layer(model).weight.data)
    assert weights_digest(model) == weights_digest(merged)


def test_codes_count_as_their_numbers_and_their_arithmetic_counts_too() -> None:
    packed, rounded = tiny.bert(), tiny.bert()
    rounded.load_state_dict(packed.state_dict())
    int8.round_to_8_bits(rounded, [WEIGHT])
    assert torch.equal(rounded.get_parameter(WEIGHT), dequantize(*quantize(packed.get_parameter(WEIGHT))))
    int8.pack(packed, [WEIGHT])
    int8.set_activations(packed, "none")
    again = tiny.bert()
    again.load_state_dict(rounded.state_dict())
    int8.pack(again, [WEIGHT])
    int8.set_activations(again, "none")
    assert weights_digest(packed) == weights_digest(again)
    assert weights_digest(packed) != weights_digest(rounded)  # which multiplies floats


def test_where_it_cannot_be_told_there_is_none() -> None:
    model: Any = tiny.bert()
    get_peft_model(model, LoraConfig(target_modules=["query"], r=2))
    assert weights_digest(model) is None
    assert weights_digest(object()) is None
    packed: Any = tiny.bert()
    packed.quantization_method = "bitsandbytes"
    assert weights_digest(packed) is None


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_a_norm_counts(which: str) -> None:
    model = tiny.bert()
    before = weights_digest(model)
    model.get_parameter(f"bert.embeddings.LayerNorm.{which}").data += 1
    assert weights_digest(model) != before
