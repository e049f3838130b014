"""The perplexity of texts to a causal language model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.task import IGNORED


def perplexity(loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions) -> float:
    """Exp of the mean negative log-likelihood of a token of the paragraphs.

    They are read in windows of `max_length` tokens, each token predicted once, with at least `stride` tokens before it
    where the paragraph has them (Hugging Face's "perplexity of fixed-length models").

    Raises InputError where there is no token to predict, or a likelihood is not a number.
    """
    model: Any = loaded.model
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in _batches(_paragraphs(loaded, examples, options), options.batch_size, loaded):
            logits = model(**{name: batch[name] for name in batch if name != "targets"}, use_cache=False).logits.float()
            logits, targets = logits[:, :-1], batch["targets"][:, 1:]  # position t predicts token t + 1
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            total += float(loss)
            count += int((targets != IGNORED).sum())
    if not count:
        raise InputError("perplexity needs text to predict, and the data has none; give data with longer contexts")
    return exp_of_mean(total, count, loaded.ref)


def exp_of_mean(total: float, count: int, ref: str) -> float:
    """The perplexity of `count` tokens whose negative log-likelihoods have that sum.

    Infinite where a float cannot hold it. Raises InputError, naming the checkpoint `ref`, where the sum is no number.
    """
    if not math.isfinite(total):
        raise InputError(f"{ref} gives likelihoods that are not numbers; it is broken, make it again")
    try:
        return math.exp(total / count)
    except OverflowError:  # more than 709 nats a token: broken, but its answers can be scored
        return math.inf


@dataclass(frozen=True, slots=True)
class _Row:
    """Token ids to read, and the tokens to predict (`IGNORED` where none is)."""

    inputs: list[int]
    targets: list[int]


def _paragraphs(loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions) -> Iterator[_Row]:
    limit = min(options.max_length, loaded.family.max_positions(loaded.model.config) or options.max_length)
    for _, context in examples.paragraphs():
        ids: list[int] = loaded.tokenizer(context)["input_ids"]
        if not ids:
            continue
        seen = 0
        for begin in range(0, max(len(ids) - options.stride, 1), max(limit - options.stride, 1)):
            window = ids[begin : begin + limit]
            yield _Row(window, [IGNORED] * (seen - begin) + window[seen - begin :])
            seen = begin + len(window)


def _batches(rows: Iterable[_Row], size: int, loaded: LoadedModel) -> Iterator[dict[str, Tensor]]:
    """Pad rows on the right to batches on the model's device."""

    def padded(sequences: Iterable[list[int]], value: int) -> Tensor:
        made = pad_sequence(
            [torch.tensor(each, dtype=torch.int64) for each in sequences], batch_first=True, padding_value=value
        )
        return made.to(loaded.device)

    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, size)):
        yield {
            "input_ids": padded((row.inputs for row in chunk), 0),  # masked, so any token will do
            "attention_mask": padded(([1] * len(row.inputs) for row in chunk), 0),
            "targets": padded((row.targets for row in chunk), IGNORED),
        }
