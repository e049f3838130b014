"""Outliers that move into the weights: where that pays, and where a model would compute otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForQuestionAnswering,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    RobertaConfig,
    RobertaForQuestionAnswering,
    RoFormerConfig,
    RoFormerForQuestionAnswering,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from compresskit.methods.quantize.calibration import gathered
from compresskit.methods.quantize.sensitivity import largest_inputs, sensitivities
from compresskit.methods.quantize.smoothing import folds, smooth
from compresskit.models.kinds import int8
from tests import tiny
from tests.methods.quantize.test_calibration import config, opened
from tests.methods.quantize.test_quantize import logits

SHAPE = (
    *("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"),
    *("pad_token_id", "eos_token_id", "decoder_start_token_id"),
)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("family", ["encoder", "seq2seq"])
def test_outliers_move_into_the_weights_and_nothing_else_changes(family: str, gated: bool, tmp_path: Path) -> None:
    """Folds with an outlier among their channels pay; what the model computes stays."""
    loaded = opened(family, tmp_path)
    if family == "seq2seq" and gated:
        shape = {name: getattr(loaded.model.config, name) for name in SHAPE}
        loaded.model = T5ForConditionalGeneration(T5Config(**shape, feed_forward_proj="gated-gelu"))
        assert loaded.model.get_submodule("encoder.block.0.layer.1.DenseReluDense.wi_1")
    found = folds(loaded.model)
    sources = {type(loaded.model.get_submodule(fold.source)).__name__ for fold in found}
    assert sources == ({"Linear"} if family == "encoder" else {"Linear", "T5LayerNorm"})
    assert len({reader for fold in found for reader in fold.readers}) == sum(len(fold.readers) for fold in found)
    with torch.no_grad():
        for fold in found:  # rows of very unlike size
            weight = loaded.model.get_parameter(f"{fold.source}.weight")
            weight[::7] *= 30
    before = logits(loaded.model)
    calibration = gathered(loaded, config(tmp_path))
    names = int8.quantizable(loaded)
    plain = sensitivities(loaded, names, calibration.batches, dict.fromkeys(int8.linear_layers(loaded.model, names)))
    smoothed = smooth(loaded, names, calibration.batches, static=False)
    assert smoothed.folds > 0
    readers = {f"{reader}.weight" for fold in found for reader in fold.readers}
    assert sum(smoothed.costs[name] for name in readers) < sum(plain[name] for name in readers)
    assert smoothed.possible == len(found)
    torch.testing.assert_close(logits(loaded.model), before, atol=1e-4 * float(before.abs().max()), rtol=1e-4)
    again = largest_inputs(loaded, list(smoothed.inputs), calibration.batches)
    for name, largest in smoothed.inputs.items():
        torch.testing.assert_close(again[name], largest, rtol=1e-3, atol=1e-3 * float(largest.max()))


ATTENTION: dict[str, Any] = {"vocab_size": len(tiny.TOKENS), "hidden_size": 32, "num_hidden_layers": 2}
ENCODER: dict[str, Any] = {**ATTENTION, "num_attention_heads": 2, "intermediate_size": 48}
WRITER: dict[str, Any] = {"vocab_size": len(tiny.TOKENS), "d_model": 32, "decoder_start_token_id": 0}
T5: dict[str, Any] = {**WRITER, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
BART: dict[str, Any] = {
    **WRITER,
    **{f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")},
    **{f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")},
}
DISTIL: dict[str, Any] = {"vocab_size": len(tiny.TOKENS), "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
# Models by what their folds are: those that T5, BERT and others like them have, and those that look so and are not.
FOLDING = {
    "bert": (BertForQuestionAnswering, BertConfig, ENCODER, True),
    "roberta": (RobertaForQuestionAnswering, RobertaConfig, ENCODER, True),
    "distilbert": (DistilBertForQuestionAnswering, DistilBertConfig, DISTIL, True),
    "bart": (BartForConditionalGeneration, BartConfig, BART, True),
    "umt5": (UMT5ForConditionalGeneration, UMT5Config, T5, True),
    "roformer, values turned": (
        RoFormerForQuestionAnswering,
        RoFormerConfig,
        {**ENCODER, "embedding_size": 32, "rotary_value": True},
        False,
    ),
    "switch": (SwitchTransformersForConditionalGeneration, SwitchTransformersConfig, {**T5, "num_experts": 2}, False),
}


@pytest.mark.parametrize("kind", FOLDING)
def test_what_would_change_the_model_is_not_smoothed(kind: str, tmp_path: Path) -> None:
    made, settings, shape, exact = FOLDING[kind]
    loaded = opened("seq2seq" if "decoder_start_token_id" in shape else "encoder", tmp_path)
    torch.manual_seed(0)
    loaded.model = made(settings(**shape, pad_token_id=0, eos_token_id=1)).eval()
    before = logits(loaded.model)
    names = int8.quantizable(loaded)
    smoothed = smooth(loaded, names, gathered(loaded, config(tmp_path)).batches, static=False)
    assert (smoothed.possible == len(folds(loaded.model))) == exact
    torch.testing.assert_close(logits(loaded.model), before, atol=2e-4 * float(before.abs().max()), rtol=1e-3)
