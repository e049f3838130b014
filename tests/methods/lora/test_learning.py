"""Adapters where they learn: layers that the answers do not depend on are left out, and those that PEFT mistakes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3NextConfig, Qwen3NextForQuestionAnswering

from compresskit import console
from compresskit.checkpoint.store import load_tensors
from compresskit.errors import UsageError
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.lora.learning import learning
from compresskit.methods.lora.method import PeftAdapters
from compresskit.methods.lora.targets import chosen
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source
from tests import tiny
from tests.contract import readers


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(console, "info", found.append)
    return found


def opened(kind: str, folder: Path) -> TrainableModel:
    return load_trainable(Source(kind, readers.checkpoint(kind, folder)))


def last_names(modules: Any) -> Counter[str]:
    return Counter(name.rpartition(".")[2] for name in modules)


# An attention over all tokens that nobody asks for; a pooler whose output no answer depends on.
UNREAD = {"led": {"query_global": 2, "key_global": 2, "value_global": 2}, "fnet": {"dense": 1}}


@pytest.mark.parametrize("kind", UNREAD)
def test_layers_that_the_answers_do_not_depend_on(kind: str, told: list[str], tmp_path: Path) -> None:
    loaded = opened(kind, tmp_path)
    known = chosen(loaded, ["all-linear"])
    loaded.model.train()
    state = torch.get_rng_state()
    left = learning(loaded, known)
    assert last_names(known) - last_names(left) == UNREAD[kind]
    (line,) = told
    assert line == "left out, as the answers do not depend on them: " + ", ".join(
        f"{name} {count}" for name, count in UNREAD[kind].items()
    )
    # By the gradients themselves: all that is left has one, and nothing that was left out.
    ids = torch.randint(7, 40, (2, 12), generator=torch.Generator().manual_seed(0))
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
    assert loaded.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in loaded.model.modules())
    found = loaded.model(input_ids=ids)
    (found.start_logits.sum() + found.end_logits.square().sum()).backward()
    assert {name for name, module in known.items() if module.get_parameter("weight").grad is not None} == left.keys()


def test_targets_of_which_none_learns(tmp_path: Path) -> None:
    loaded = opened("led", tmp_path)
    with pytest.raises(UsageError, match=r"no adapter of these --targets learns in led \(query_global 2\); take othe"):
        learning(loaded, chosen(loaded, ["query_global"]))


def mixture() -> TrainableModel:
    sizes: dict[str, Any] = {"vocab_size": len(tiny.TOKENS), "hidden_size": 16, "layer_types": ["full_attention"]}
    heads: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    experts: dict[str, Any] = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    config = Qwen3NextConfig(**sizes, **heads, **experts, shared_expert_intermediate_size=8)
    torch.manual_seed(0)
    return tiny.loaded(model=Qwen3NextForQuestionAnswering(config))


def test_layers_with_the_names_of_experts(told: list[str]) -> None:
    loaded = mixture()
    left = learning(loaded, chosen(loaded, ["all-linear"]))
    assert told == [
        "left out, as PEFT takes their names for those of the stacked experts: gate_proj 1, up_proj 1, down_proj 1"
    ]
    assert set(last_names(left)) == {"q_proj", "k_proj", "v_proj", "o_proj", "shared_expert_gate"}
    adapters = PeftAdapters(loaded, LoraConfig(rank=2), left)
    assert last_names(name.partition(".lora_")[0] for name in adapters.tensors()) == dict.fromkeys(last_names(left), 2)


def test_a_head_of_several_layers_is_saved_once(tmp_path: Path) -> None:
    loaded = opened("layoutlmv3", tmp_path / "base")
    left = learning(loaded, chosen(loaded, ["query"]))
    (tmp_path / "out").mkdir()
    PeftAdapters(loaded, LoraConfig(rank=2), left).save(tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.safetensors")
    heads = {name.removeprefix("base_model.model.") for name in load_tensors(path) if "qa_outputs" in name}
    assert heads == loaded.family.head(load_trainable(Source("b", tmp_path / "base")).model)
