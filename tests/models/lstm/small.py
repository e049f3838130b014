"""What the tests of the BiLSTM readers share: a tiny tokenizer, tiny readers of every kind, and one window or two."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from compresskit.models.loaded import TrainableModel
from compresskit.models.lstm.build import write_reader
from compresskit.models.lstm.model import LstmReader
from compresskit.models.lstm.tokenizer import WordTokenizer, make_tokenizer
from compresskit.models.lstm.variants import LstmOptions
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source

WORDS = ("who", "is", "the", "king", "of", "france", "paris", "rome", "in", "lives", ".", "?", "a")
TINY = {"hidden_size": 6, "embedding_dim": 5, "buckets": 3, "dropout": 0.0}
QUESTIONS = ["Who is the king of France?", "Who?"]
CONTEXTS = ["Zorro of Rome is the king . He lives in Paris .", "The king lives ."]

VARIANTS = ("1", "2", "3", "4", "bidaf")


def options(variant: str = "1", **changes: Any) -> LstmOptions:
    """Tiny settings of a variant on random vectors."""
    return LstmOptions.choose(variant=variant, embeddings="random", **{**TINY, **changes})


def folder(parent: Path, variant: str = "1", seed: int = 0, **changes: Any) -> Path:
    """A folder with a tiny untrained reader."""
    made = parent / f"reader-{variant}-{seed}"
    write_reader(options(variant, **changes), list(WORDS), None, seed, made)
    return made


def loaded(parent: Path, variant: str = "1", **changes: Any) -> TrainableModel:
    """The reader of `folder`, through the registry."""
    return load_trainable(Source("small", folder(parent, variant, **changes)))


def model(parent: Path, variant: str = "1", **changes: Any) -> LstmReader:
    """The same, as what it is."""
    found = loaded(parent, variant, **changes).model
    assert isinstance(found, LstmReader)
    found.eval()
    return found


def tokenizer(buckets: int = 3, *, cased: bool = False) -> WordTokenizer:
    """A tokenizer of `WORDS`."""
    return make_tokenizer(WORDS, cased=cased, buckets=buckets)


def batch(count: int = 2) -> Any:
    """Two windows of different length, padded."""
    return tokenizer()(QUESTIONS[:count], CONTEXTS[:count], padding=True, return_tensors="pt")


def parts(encoded: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Question and context of each window, as plain id tensors."""
    for ids, types, mask in zip(*(encoded[n] for n in ("input_ids", "token_type_ids", "attention_mask")), strict=True):
        first, length = int((mask - types).sum()), int(mask.sum())
        yield ids[1 : first - 1], ids[first : length - 1]
