"""Models that are built, not downloaded: tiny ones with random weights for the built-in demo data."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import BertConfig, BertTokenizer

from compresskit.data import demo
from compresskit.models.encoder import EncoderFamily

SEED = 0


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """One temporary folder for the process's built models, removed when it ends."""
    return tempfile.TemporaryDirectory(prefix="compresskit-")


@functools.cache
def demo_bert() -> Path:
    """A folder with a small random BERT and its own WordPiece tokenizer; the same bytes on every call."""
    folder = Path(_scratch().name) / "demo-bert"
    folder.mkdir()
    vocabulary = {token: index for index, token in enumerate(demo.vocabulary())}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(SEED):
        model = EncoderFamily().build(config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's CPU generator seeded for a block, and put back as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
