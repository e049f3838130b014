"""Models of the seq2seq family that are built unlike T5 1.0: every verb takes them as it takes that."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from compresskit.methods.job import Job, MergeConfig, MergeOptions, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.qlora import run_qlora
from compresskit.methods.run import run
from compresskit.models.answering import AnswerOptions
from compresskit.models.registry import load
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers

T5: dict[str, Any] = {"d_model": 64, "d_kv": 32, "d_ff": 128, "num_layers": 1, "num_heads": 2}


def common(tokenizer: Any) -> dict[str, Any]:
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    return {"vocab_size": len(tiny.TOKENS), "pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": pad}


def flan(tokenizer: Any) -> PreTrainedModel:
    """Flan-T5 and T5 v1.1: gated FFN, embeddings that are not tied."""
    untied: dict[str, Any] = {"tie_word_embeddings": False}
    config = T5Config(feed_forward_proj="gated-gelu", **untied, **T5, **common(tokenizer))
    return T5ForConditionalGeneration(config)


def mt5(tokenizer: Any) -> PreTrainedModel:
    config = MT5Config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **T5, **common(tokenizer))
    return MT5ForConditionalGeneration(config)


def bart(tokenizer: Any) -> PreTrainedModel:
    shape = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_position_embeddings": 64}
    settings: dict[str, Any] = {**shape, **widths, **common(tokenizer), "forced_eos_token_id": None}
    return BartForConditionalGeneration(BartConfig(**settings, bos_token_id=tokenizer.cls_token_id))


MODELS: Mapping[str, Callable[[Any], PreTrainedModel]] = {"flan": flan, "mt5": mt5, "bart": bart}


@pytest.mark.parametrize("name", ["flan", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mt5", "bart"))])
def test_every_method(name: str, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token, tokenizer.bos_token = tokenizer.sep_token, tokenizer.cls_token
    torch.manual_seed(0)
    MODELS[name](tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    makers.data(tmp_path / "data.json")

    def job(method: str, config: Any, model: str = "base") -> Job:
        settings: dict[str, Any] = {"max_steps": 4, "batch_size": 4, "max_length": 48, "stride": 8, "device": "cpu"}
        settings |= {"train_data": str(tmp_path / "data.json")}
        return Job(method, TrainingOptions(str(tmp_path / model), tmp_path / method, **settings), config)

    made = {
        "train": run(job("train", TrainConfig())),
        "prune": run(job("prune", PruneConfig(sparsity=0.5))),
        "lora": run(job("lora", LoraConfig(rank=2, targets=("all-linear",)))),
    }
    made["merge"] = run(Job("merge", MergeOptions(str(made["lora"]), tmp_path / "merged"), MergeConfig()))
    for bits in (4, 8):
        asked = job("lora", LoraConfig(rank=2))
        output = tmp_path / f"qlora-{bits}"
        made[output.name] = run_qlora(Job("lora", replaced(asked, output), asked.config), bits)
        made[f"base-{bits}"] = tmp_path / f"qlora-{bits}-base"
    written = []
    for folder in made.values():
        loaded = load(str(folder), device="cpu")
        assert loaded.family.name == "seq2seq"
        found = list(loaded.task.answer(loaded, tiny.examples(3), AnswerOptions(48, 8, null_threshold=1e9, beams=2)))
        assert len(found) == 3
        # What so few steps leave may write special tokens alone, which is no answer.
        assert all(each.null_score is not None and math.isfinite(each.null_score) for each in found)
        written += [each.span_text for each in found]
    assert any(written)


def replaced(job: Job, output: Path) -> TrainingOptions:
    from dataclasses import replace

    return replace(job.training, output=output)
