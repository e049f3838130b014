"""Which models the causal family opens, and what it says of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from compresskit.errors import InputError
from compresskit.methods.job import Job
from compresskit.methods.registry import method_named
from compresskit.methods.run import run
from compresskit.models.registry import load
from compresskit.training.arguments import RunOptions, TrainingOptions
from tests import tiny
from tests.contract import makers

ATTENTION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
GPT = {"n_embd": 16, "n_layer": 1, "n_head": 2}
MAMBA = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
OPENED: dict[str, dict[str, Any]] = {
    "gpt2": GPT,
    "llama": ATTENTION,
    "bert-generation": ATTENTION,  # its code says tuple, and takes transformers' class
    "mamba": MAMBA,
    "mamba2": {**MAMBA, "num_heads": 4, "head_dim": 8, "n_groups": 1},
}
NONE, OWN, MIXED = "it takes no cache", "in a form of its own", "mixes attention with layers of states"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "openai-gpt": (GPT, NONE),
    "rwkv": ({"hidden_size": 32, "num_hidden_layers": 2}, NONE),
    "xlnet": ({"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}, NONE),
    "xlstm": ({"hidden_size": 32, "num_blocks": 1, "num_heads": 4}, OWN),
    "lfm2": ({**ATTENTION, "num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]}, MIXED),
}


def saved(folder: Path, kind: str, settings: dict[str, Any]) -> Path:
    """A model of a type of transformers in the words of `tests.tiny`."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    config = AutoConfig.for_model(kind, **settings, vocab_size=len(tiny.TOKENS), pad_token_id=0, eos_token_id=3)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", OPENED)
def test_models_with_the_common_cache_open(kind: str, tmp_path: Path) -> None:
    loaded = load(str(saved(tmp_path / kind, kind, OPENED[kind])), device="cpu")
    assert loaded.family.name == "causal"


@pytest.mark.parametrize("kind", REFUSED)
def test_models_that_cannot_be_asked_do_not_open(kind: str, tmp_path: Path) -> None:
    settings, why = REFUSED[kind]
    folder = saved(tmp_path / kind, kind, settings)
    with pytest.raises(InputError, match=rf"^a (model of type )?{kind} .*{why}.*; take "):
        load(str(folder), device="cpu")


@pytest.mark.parametrize("method", ["train", "lora", "prune", "quantize"])
def test_no_method_begins_with_such_a_model(method: str, tmp_path: Path) -> None:
    folder, out = saved(tmp_path / "rwkv", "rwkv", REFUSED["rwkv"][0]), tmp_path / "out"
    makers.data(tmp_path / "data.json")
    training = TrainingOptions(str(folder), out, train_data=str(tmp_path / "data.json"), max_steps=1, device="cpu")
    options = training if method_named(method).trains else RunOptions(str(folder), out)
    with pytest.raises(InputError, match=NONE):
        run(Job(method, options, method_named(method).Config()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.json", "rwkv"]
