"""A tiny checkpoint with a span head of every architecture that transformers has one for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
)

from tests import tiny
from tests.models.tiny import bpe

# What most configurations call their sizes, under one of the names; each is set where a configuration knows it.
WIDTH = ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "embedding_size", "word_embed_proj_dim")
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers")
HEADS = ("num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads")
INNER = ("intermediate_size", "d_ff", "d_inner", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim")
SIZES: Mapping[str, int] = {
    **dict.fromkeys(WIDTH, 32),
    **dict.fromkeys(LAYERS, 2),
    **dict.fromkeys(HEADS, 4),
    **dict.fromkeys(INNER, 64),
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "max_position_embeddings": 80,
    "n_positions": 80,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
}

# What an architecture needs beside these, or in their place.
OWN: Mapping[str, Mapping[str, Any]] = {
    "bigbird_pegasus": {"decoder_start_token_id": 2},
    "gptj": {"rotary_dim": 4},
    "qwen3_moe": {"num_experts_per_tok": 2},
    "qwen3_next": {"num_experts_per_tok": 2, "layer_types": ["linear_attention", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "led": {"max_encoder_position_embeddings": 80, "max_decoder_position_embeddings": 80, "attention_window": 8},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": 8},
    "mpt": {"max_seq_len": 80},
    "xlnet": {"d_inner": 128},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
}
# Configurations that take no such sizes, or not all of them.
NOT: Mapping[str, frozenset[str]] = {
    "falcon": frozenset({"head_dim"}),
    "funnel": frozenset({"num_hidden_layers", "n_layer", "num_layers"}),
    "xlnet": frozenset({"max_position_embeddings"}),
}


def is_decoder(kind: str) -> bool:
    config = CONFIG_MAPPING[kind]
    writes = config in MODEL_FOR_CAUSAL_LM_MAPPING and config not in MODEL_FOR_MASKED_LM_MAPPING
    return writes and not config().is_encoder_decoder


def tokenizer_of(kind: str) -> Any:
    """Words and [CLS]; for a decoder bytes, with neither padding nor a token at the front."""
    if kind == "longformer":
        return bpe()
    if not is_decoder(kind):
        tokenizer = tiny.tokenizer()
        tokenizer.eos_token, tokenizer.bos_token = tokenizer.sep_token, tokenizer.cls_token
        return tokenizer
    return bytes_alone()


def bytes_alone() -> Any:
    from transformers import GPT2Tokenizer

    known = bpe()
    return GPT2Tokenizer(vocab=known.get_vocab(), merges=[], unk_token="<unk>", bos_token="</s>", eos_token="</s>")


def config_of(kind: str, tokenizer: Any) -> PretrainedConfig:
    """The smallest configuration of an architecture."""
    usual = CONFIG_MAPPING[kind]()
    names = {usual.attribute_map.get(name, name) for name in SIZES if hasattr(usual, name)}
    sizes = {name: value for name, value in SIZES.items() if name in names - NOT.get(kind, frozenset())}
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if usual.is_encoder_decoder:
        ends["decoder_start_token_id"] = tokenizer.pad_token_id
    return CONFIG_MAPPING[kind](**{**sizes, **tokens, **ends, **OWN.get(kind, {})})


def checkpoint(kind: str, folder: Path) -> Path:
    tokenizer = tokenizer_of(kind)
    config = config_of(kind, tokenizer)
    torch.manual_seed(0)
    model: PreTrainedModel = MODEL_FOR_QUESTION_ANSWERING_MAPPING[type(config)](config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
