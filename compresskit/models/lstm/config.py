"""The configuration of a BiLSTM reader, as config.json holds it."""

from __future__ import annotations

import math
from typing import get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from compresskit.models.lstm.variants import Attention, Pooling


@strict
class LstmReaderConfig(PreTrainedConfig):
    """Sizes and parts of a BiLSTM reader; docs/reference/lstm.md says what each does.

    `hidden_size` is that of one direction. `num_hidden_layers` counts all BiLSTM layers, of which `modelling_layers`
    stand above the attention. `character_length` is the number of bytes of a word that are read.
    Raises huggingface_hub's StrictDataclassError for what no reader has.
    """

    model_type = "compresskit_lstm"

    vocab_size: int = 1000
    embedding_dim: int = 100
    freeze_embeddings: bool = False
    attention: Attention = "additive"
    attention_heads: int = 4
    residual: bool = False
    pooling: Pooling = "flatten"
    dropout: float | int = 0.2
    l2: float | int = 0.0
    hidden_size: int = 128
    num_hidden_layers: int = 1
    modelling_layers: int = 0
    characters: bool = False
    character_dim: int = 16
    character_filters: int = 100
    character_width: int = 5
    character_length: int = 16
    highway: int = 0
    exact_match: bool = False
    pad_token_id: int | None = 0
    cls_token_id: int | None = 2
    sep_token_id: int | None = 3

    def validate_parts(self) -> None:
        """ValueError for parts, sizes and rates that no reader has."""
        for name, choices in (("attention", get_args(Attention)), ("pooling", get_args(Pooling))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(choices)}")
        sizes = ("vocab_size", "embedding_dim", "attention_heads", "hidden_size", "num_hidden_layers")
        letters = ("character_dim", "character_filters", "character_width", "character_length")
        for name in (*sizes, *letters):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")
        if not 0 <= self.modelling_layers < self.num_hidden_layers or self.highway < 0:
            raise ValueError("modelling_layers must be fewer than num_hidden_layers, and highway at least 0")
        if self.attention == "multi-head" and 2 * self.hidden_size % self.attention_heads:
            raise ValueError(f"attention_heads {self.attention_heads} do not divide {2 * self.hidden_size} states")
        if not (0 <= self.dropout < 1 and 0 <= self.l2 < math.inf):
            raise ValueError("dropout must be in [0, 1), and l2 at least 0 and finite")
