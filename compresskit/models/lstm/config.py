"""The configuration of a BiLSTM reader, as config.json holds it."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class LstmReaderConfig(PreTrainedConfig):
    """Sizes and parts of a BiLSTM reader; docs/lstm.md says what each does.

    `hidden_size` is that of one direction. `num_hidden_layers` counts all BiLSTM layers, of which `modelling_layers`
    stand above the attention. `character_length` is the number of bytes of a word that are read.
    """

    model_type = "compresskit_lstm"

    vocab_size: int = 1000
    embedding_dim: int = 100
    freeze_embeddings: bool = False
    attention: str = "additive"
    attention_heads: int = 4
    residual: bool = False
    pooling: str = "flatten"
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
