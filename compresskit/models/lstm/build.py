"""An untrained BiLSTM reader from its settings and its training data: vocabulary, vectors, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch

from compresskit import console
from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError
from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.model import LstmReader
from compresskit.models.lstm.tokenizer import WordTokenizer, make_tokenizer, words_of
from compresskit.models.lstm.variants import Attention, LstmOptions, Pooling
from compresskit.models.lstm.vector_file import read_vectors
from compresskit.models.lstm.vectors import Vectors

RANDOM_DIM = 100


def build(options: LstmOptions, examples: ExampleSet, seed: int, folder: Path) -> None:
    """Write configuration, tokenizer and untrained weights into `folder`, which is made where it is not there.

    The vocabulary is that of the questions and contexts, then the first words of the vector file, up to
    `options.vocabulary`. Raises InputError where the data holds no word, or the vector file is not one.
    """
    words = words_of(examples, cased=options.cased, min_count=options.min_count, limit=options.vocabulary)
    if not words:
        raise InputError(f"{examples.info.path} holds no word {options.min_count} times; lower --min-count")
    vectors = None
    if options.vector_file is not None:
        vectors = read_vectors(
            options.vector_file,
            words,
            extra=options.vocabulary - len(words),
            lowercase=not options.cased,
            dimension=options.embedding_dim or None,
        )
        for line in vectors.notices(words, not options.cased):
            console.info(line)
        known = set(words)
        words += [word for word in vectors.rows if word not in known]
    write_reader(options, words, vectors, seed, folder)


def write_reader(options: LstmOptions, words: list[str], vectors: Vectors | None, seed: int, folder: Path) -> None:
    """Write the untrained reader of a vocabulary: `words`, those of `vectors` among them."""
    tokenizer = make_tokenizer(words, cased=options.cased, buckets=options.buckets)
    model = _model(options, tokenizer, vectors, seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _model(options: LstmOptions, tokenizer: WordTokenizer, vectors: Vectors | None, seed: int) -> LstmReader:
    config = LstmReaderConfig(
        vocab_size=len(tokenizer),
        embedding_dim=vectors.dimension if vectors is not None else options.embedding_dim or RANDOM_DIM,
        freeze_embeddings=options.freeze_embeddings,
        attention=cast("Attention", options.attention),
        residual=options.residual,
        pooling=cast("Pooling", options.pooling),
        dropout=options.dropout,
        l2=options.l2,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers + options.modelling_layers,
        modelling_layers=options.modelling_layers,
        characters=options.characters,
        highway=options.highway,
        exact_match=options.exact_match,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LstmReader(config)
    vocabulary = tokenizer.get_vocab()
    with torch.no_grad():
        if vectors is not None:
            _set_vectors(model.get_input_embeddings().get_parameter("weight"), vectors, vocabulary)
        if model.embeddings.characters is not None:
            letters = letter_table(vocabulary, config.character_length, set(tokenizer.all_special_ids))
            model.embeddings.characters.table.copy_(torch.from_numpy(letters))
    return model


def _set_vectors(weight: torch.Tensor, vectors: Vectors, vocabulary: dict[str, int]) -> None:
    """Copy the vectors to their words' rows; the other rows get random ones of the same scale."""
    rows = [vocabulary[word] for word in vectors.rows]
    if not rows:
        return
    weight.mul_(float(vectors.matrix.std()) / float(weight.std()))
    weight[rows] = torch.from_numpy(vectors.matrix[list(vectors.rows.values())])


def letter_table(
    vocabulary: dict[str, int], length: int, special: set[int]
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """The first `length` bytes of every word in UTF-8, shape (words, length), 0 where it is shorter or special."""
    table = np.zeros((len(vocabulary), length), np.uint8)
    for word, row in vocabulary.items():
        letters = b"" if row in special else word.encode()[:length]
        table[row, : len(letters)] = np.frombuffer(letters, np.uint8)
    return table
