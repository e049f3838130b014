"""A tiny checkpoint with a span head of every architecture that transformers has one for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForQuestionAnswering, GPT2Tokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

from compresskit.models.encoder import is_decoder
from compresskit.models.tasks.readable import UNREADABLE
from tests import tiny
from tests.models.tiny import bpe

KINDS = tuple(MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES)

# What most configurations call their sizes; each is set where a configuration knows it.
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
    "sliding_window": 8,
}

# What an architecture needs beside these, or in their place. None: its configuration takes no such size.
OWN: Mapping[str, Mapping[str, Any]] = {
    "bigbird_pegasus": {"decoder_start_token_id": 2},
    "canine": {"downsampling_rate": 2},
    "falcon": {"head_dim": None},
    "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gptj": {"rotary_dim": 4},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "led": {"max_encoder_position_embeddings": 80, "max_decoder_position_embeddings": 80, "attention_window": 8},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": 8, "type_vocab_size": 1},
    "luke": {"entity_vocab_size": 8},
    "mpt": {"max_seq_len": 80},
    "qwen3_moe": {"num_experts_per_tok": 2},
    "qwen3_next": {"num_experts_per_tok": 2, "layer_types": ["linear_attention", "full_attention"]},
    "roc_bert": {"pronunciation_vocab_size": 45, "shape_vocab_size": 45},
    "xlnet": {"max_position_embeddings": None, "d_inner": 128},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
}
# Those that need RoBERTa's tokens: two separators between question and text, or padding of the number 1.
AS_ROBERTA = frozenset({"longformer", "mpnet"})


def tokenizer_of(kind: str) -> Any:
    """Words and [CLS]; for a decoder bytes, with neither padding nor a token at the front, as GPT-2's."""
    if kind in AS_ROBERTA:
        return bpe()
    if is_decoder(CONFIG_MAPPING[kind]()):
        end = "</s>"
        return GPT2Tokenizer(vocab=bpe().get_vocab(), merges=[], unk_token="<unk>", bos_token=end, eos_token=end)
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token, tokenizer.bos_token = tokenizer.sep_token, tokenizer.cls_token
    return tokenizer


def config_of(kind: str, tokenizer: Any) -> PretrainedConfig:
    """A small configuration of an architecture, by the names that its own has."""
    usual, own = CONFIG_MAPPING[kind](), OWN.get(kind, {})
    no_sizes = {usual.attribute_map.get(name, name) for name, value in own.items() if value is None}
    known = {usual.attribute_map.get(name, name): value for name, value in SIZES.items() if hasattr(usual, name)}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **ends}
    if usual.is_encoder_decoder:
        tokens["decoder_start_token_id"] = tokenizer.pad_token_id
    if kind in AS_ROBERTA:
        tokens["sep_token_id"] = tokenizer.sep_token_id
    given = {name: value for name, value in {**known, **own}.items() if name not in no_sizes and value is not None}
    return CONFIG_MAPPING[kind](**{**tokens, **given})


def checkpoint(kind: str, folder: Path) -> Path:
    """A checkpoint of random weights; of what is refused by its configuration, that with the weights of a BERT."""
    tokenizer = tokenizer_of(kind)
    torch.manual_seed(0)
    if kind in UNREADABLE:
        tiny.bert().save_pretrained(folder)
        CONFIG_MAPPING[kind]().save_pretrained(folder)
    else:
        config = config_of(kind, tokenizer)
        model: Any = AutoModelForQuestionAnswering.from_config(config)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
