"""Models with experts: what leaves them out says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model
from transformers import MambaConfig, MambaForCausalLM, MixtralConfig, MixtralForCausalLM

from compresskit import console
from compresskit.errors import InputError
from compresskit.methods.experts import check_experts
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.causal import CausalFamily
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers

SIZES: dict[str, Any] = {"vocab_size": len(tiny.TOKENS), "hidden_size": 16, "num_hidden_layers": 1}


def mixtral(inner: int) -> Any:
    """Two experts of 16 x `inner`, two matrices and one back: 96 · `inner` parameters; and 832 others in its block."""
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 2}
    return MixtralForCausalLM(MixtralConfig(**SIZES, **heads, intermediate_size=inner, eos_token_id=3))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(console, "warn", found.append)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    torch.manual_seed(0)
    mixtral(32).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    makers.data(tmp_path / "data.json")
    return tmp_path


def training(root: Path) -> TrainingOptions:
    options: dict[str, Any] = {"max_steps": 1, "batch_size": 4, "max_length": 48, "stride": 8, "device": "cpu"}
    return TrainingOptions(str(root / "base"), root / "out", train_data=str(root / "data.json"), **options)


def test_an_adapter_leaves_them_as_they_are(root: Path, told: list[str]) -> None:
    run(Job("lora", training(root), LoraConfig(rank=2)))
    (warning,) = [each for each in told if "experts" in each]
    assert warning.endswith("which lora does not reach: 3,072 parameters of its blocks stay as large as they are")


@pytest.mark.parametrize("method", ["prune", "quantize"])
def test_masks_and_bits_need_most_of_the_weights(method: str, root: Path, told: list[str]) -> None:
    job = Job("prune", training(root), PruneConfig())
    if method == "quantize":
        job = Job("quantize", QuantizeOptions(str(root / "base"), root / "out"), QuantizeConfig())
    with pytest.raises(InputError, match=rf"which {method} does not reach: 3,072 of the 3,904 parameters of its bl"):
        run(job)
    assert not list(root.glob("out*"))


def test_a_few_experts_are_told(told: list[str]) -> None:
    check_experts(tiny.loaded(model=mixtral(8), family=CausalFamily()), "prune", needed=True)
    assert told == [
        "tiny keeps its experts as stacks of matrices, which prune does not reach: "
        "768 parameters of its blocks stay as large as they are"
    ]


def test_a_convolution_is_no_stack(told: list[str]) -> None:
    mamba = MambaForCausalLM(MambaConfig(**SIZES, state_size=4, eos_token_id=3))
    check_experts(tiny.loaded(model=mamba, family=CausalFamily()), "prune", needed=True)
    assert not told


@torch.no_grad()
def test_an_adapter_of_experts_by_peft_is_merged(root: Path) -> None:
    """PEFT puts one wrapper around another where it adapts two stacks of a module."""
    config = PeftLora(r=2, target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    adapted: Any = get_peft_model(MixtralForCausalLM.from_pretrained(root / "base"), config)
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    adapted.peft_config["default"].base_model_name_or_path = str(root / "base")
    adapted.save_pretrained(root / "adapter")
    run(Job("merge", MergeOptions(str(root / "adapter"), root / "merged"), MergeConfig()))
    ids = torch.randint(5, 30, (2, 9), generator=torch.Generator().manual_seed(0))
    merged = MixtralForCausalLM.from_pretrained(root / "merged").eval()(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted.eval()(input_ids=ids).logits)
    plain = MixtralForCausalLM.from_pretrained(root / "base").eval()(input_ids=ids).logits
    assert float((merged - plain).abs().max()) > 0.01
