"""Models that are built, not downloaded: tiny ones with random weights for the built-in demo data."""

from __future__ import annotations

import contextlib
import functools
import math
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from compresskit.checkpoint.temporary import new_folder
from compresskit.data import demo
from compresskit.models import builtin_mamba, builtin_t5
from compresskit.models.encoder import EncoderFamily
from compresskit.models.lstm.build import write_reader
from compresskit.models.lstm.variants import LstmOptions

SEED = 0
LAYERS = 3
# Scale of the random weights, strength of the attention between equal words, and wave length (in tokens) of the slowest
# position: the values at which training was quickest.
GAIN, SAME_WORD, LONGEST_WAVE = 0.5, 1.2, 1000.0
# Small enough to learn most of the demo set in half a minute on a CPU.
DEMO_READER: Mapping[str, Any] = {"variant": "bidaf", "hidden_size": 64}


@functools.cache
def scratch() -> Path:
    """The process's one temporary folder for models that it builds, removed when it ends."""
    return new_folder()


@functools.cache
def demo_bert() -> Path:
    """A folder with a small untrained BERT and its own WordPiece tokenizer; the same bytes on every call."""
    folder = scratch() / "demo-bert"
    folder.mkdir()
    vocabulary = {token: index for index, token in enumerate(demo.vocabulary())}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(SEED):
        model = EncoderFamily().build(config)
        initialize(model)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@functools.cache
def demo_lstm() -> Path:
    """A folder with a small untrained BiLSTM reader of the demo set's words; the same bytes on every call."""
    folder = scratch() / "demo-lstm"
    words = [word for word in demo.vocabulary() if word[0].isalnum() or word in string.punctuation]
    write_reader(LstmOptions.choose(**DEMO_READER), words, None, SEED, folder)
    return folder


@functools.cache
def demo_t5() -> Path:
    """A folder with a small untrained T5 and its own tokenizer of whole words; the same bytes on every call."""
    return _written("demo-t5", builtin_t5.tokenizer(), builtin_t5.model)


@functools.cache
def demo_mamba() -> Path:
    """A folder with a small untrained Mamba and its own tokenizer of whole words; the same bytes on every call."""
    return _written("demo-mamba", builtin_mamba.tokenizer(), builtin_mamba.model)


def _written(
    name: str, tokenizer: PreTrainedTokenizerFast, make: Callable[[PreTrainedTokenizerFast], PreTrainedModel]
) -> Path:
    """A folder of that name with the tokenizer, and the model that `make` makes for it."""
    folder = scratch() / name
    with seeded(SEED):
        model = make(tokenizer)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def initialize(model: PreTrainedModel) -> None:
    """Random weights from which so small a BERT learns to match words within a thousand steps.

    Queries and keys of the first layer start near the identity, so that equal words attend to each other from the
    start (mimetic initialization, Trockman & Kolter 2023, arXiv 2305.09828), and positions are sinusoids (Vaswani et
    al. 2017). BERT's own initialization, made for a width of 768, leaves both to be found, which takes far longer.
    """
    for name, module in EncoderFamily().weights(model).items():
        weight = module.get_parameter("weight")
        weight.normal_(0, GAIN / math.sqrt(weight.shape[1]))
        if ".layer.0." in name and name.endswith((".query.weight", ".key.weight")):
            weight.mul_(0.5).add_(SAME_WORD * torch.eye(len(weight)))
    embeddings = model.base_model.get_submodule("embeddings")
    for kind in ("word_embeddings", "token_type_embeddings"):
        embeddings.get_parameter(f"{kind}.weight").normal_(0, 1)
    positions = embeddings.get_parameter("position_embeddings.weight")
    length, width = positions.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(LONGEST_WAVE) / width))
    angles = torch.arange(length).unsqueeze(1) * rates
    positions.copy_(torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's CPU generator seeded for a block, and put back as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


BUILDERS: Mapping[str, Callable[[], Path]] = {
    "demo/bert": demo_bert,
    "demo/lstm": demo_lstm,
    "demo/mamba": demo_mamba,
    "demo/t5": demo_t5,
}


def build(name: str) -> Path:
    """The folder of a built-in model by its short name; KeyError for another."""
    return BUILDERS[name]()
