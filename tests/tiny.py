"""What several test files need: a WordPiece tokenizer of 45 tokens, BERTs of two layers, and windows to train on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer

from compresskit.data.examples import Answer, Example
from compresskit.models.encoder import EncoderFamily
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import TrainableModel

CITIES, COUNTRIES = ("rome", "paris", "oslo", "lima"), ("italy", "france", "norway", "peru")
WORDS = (*CITIES, *COUNTRIES, "is", "the", "capital", "of", "who", "what", "lies", "on", "sea", "yes", "no")
PIECES = ("##a", "##e", "##s", *"abcdefghijklmno", ".", ",", "?")
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *PIECES)


def tokenizer(tokens: Sequence[str] = TOKENS) -> Any:
    """A fast BERT tokenizer over `tokens`."""
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})


def bert(*, hidden: int = 16, layers: int = 2, seed: int = 0) -> Any:
    """A seeded BERT with a span head and no dropout: 6 matrices of (h, h) or (h, 2h) in each layer."""
    config = BertConfig(
        vocab_size=len(TOKENS),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForQuestionAnswering(config)


def checkpoint(folder: Path, *, hidden: int = 16, seed: int = 0, tokens: Sequence[str] = TOKENS) -> Path:
    """A checkpoint folder with `bert` and `tokenizer`."""
    bert(hidden=hidden, seed=seed).save_pretrained(folder)
    tokenizer(tokens).save_pretrained(folder)
    return folder


def loaded(path: Path | None = None, **changes: Any) -> TrainableModel:
    """A `TrainableModel` around `bert` that did not come through the registry."""
    known = {"model": bert(), "tokenizer": tokenizer(), "family": EncoderFamily(), "kind": FullKind()}
    return TrainableModel(**{**known, "ref": "tiny", "path": path, "manifest": None, **changes})


def examples(count: int) -> list[Example]:
    """Questions about one country each, with contexts of different length."""
    made = []
    for index in range(count):
        city, country = CITIES[index % 4], COUNTRIES[index // 4 % 4]
        context = "the sea lies on the sea . " * (index % 3) + f"{city} is the capital of {country} ."
        question = f"what is the capital of {country} ?"
        answer = Answer(city, context.index(city))
        made.append(Example(f"q{index}", "t", question, context, (answer,), False, index))
    return made


class Spans(Sequence[dict[str, Any]]):
    """Random windows with random labels; each has the keys of a feature of the encoder family."""

    def __init__(self, count: int, shortest: int = 6, longest: int = 24) -> None:
        generator = np.random.default_rng(5)
        self.lengths = generator.integers(shortest, longest + 1, count)
        self.rows = [
            {
                "input_ids": generator.integers(5, len(TOKENS), length).astype(np.int32),
                "token_type_ids": np.zeros(length, np.uint8),
                "start": int(generator.integers(length)),
                "end": int(generator.integers(length)),
                "index": index,
            }
            for index, length in enumerate(self.lengths)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]
