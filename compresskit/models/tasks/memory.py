"""What a model remembers while it writes: of the prompts that it has read, and of the answers so far.

A memory has a row for each hypothesis. Several of them are put together before their prompts are read (`together`) or
while they write (`join`), since a GPU takes as long for few rows as for many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutput


def log_probabilities(logits: Tensor, unknown: Tensor | None) -> Tensor:
    """Of the tokens of a vocabulary, the last dimension of `logits`: natural, in fp32.

    Those of the `unknown` ones, token ids (n,), are -inf: a vocabulary is often padded to a round number of rows.
    """
    logits = logits.float()
    return (logits if unknown is None else logits.index_fill(-1, unknown, float("-inf"))).log_softmax(dim=-1)


class Memory(ABC):
    """What a decoder asks of a memory."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many tokens of prompts it holds, padding among them."""

    @abstractmethod
    def together(self, others: Sequence[Self]) -> Self:
        """One memory of the prompts of several, none of which has been read yet."""

    @abstractmethod
    def first(
        self, start: Sequence[int], null: Sequence[int], closing: Sequence[int] = (), unknown: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read the prompts: how likely the target `null` is, and the logits of an answer's first token.

        Log-probabilities (rows,) as `log_probabilities` has them, and (rows, vocabulary). Answers begin with `start`.
        The target is there as well with any of the tokens `closing` in place of its last one: the probabilities are
        added.
        """

    @abstractmethod
    def read(self, tokens: Tensor) -> Tensor:
        """Read one token a row, (rows,): the logits of the next one, (rows, vocabulary)."""

    @abstractmethod
    def repeat(self, times: int) -> None:
        """Each row so many times, one after the other."""

    @abstractmethod
    def select(self, places: Tensor) -> None:
        """Keep the rows at some places, in their order."""

    def exchange(self, places: Tensor) -> None:
        """As `select`, where each place has a row of the same prompt as before."""
        self.select(places)

    @abstractmethod
    def join(self, others: Sequence[Self]) -> None:
        """Take in the rows of others that have written as many tokens."""


class EncoderMemory(Memory):
    """That of an encoder-decoder: what the encoder gave, and the decoder's cache.

    `hidden` (rows, length, width) is the encoder's output, `mask` (rows, length) its attention mask.
    """

    def __init__(self, model: Any, hidden: Tensor, mask: Tensor) -> None:
        self.model, self.hidden, self.mask = model, hidden, mask
        self._like = hidden.new_zeros((1, 1, hidden.shape[2]))

    @property
    def size(self) -> int:
        """How many tokens of the encoder's it holds."""
        return self.mask.numel()

    def together(self, others: Sequence[Self]) -> Self:
        """Padded to the longest."""
        every = (self, *others)
        length = max(each.mask.shape[1] for each in every)
        hidden = torch.cat([pad(each.hidden, (0, 0, 0, length - each.hidden.shape[1])) for each in every])
        mask = torch.cat([pad(each.mask, (0, length - each.mask.shape[1])) for each in every])
        return type(self)(self.model, hidden, mask)

    def first(
        self, start: Sequence[int], null: Sequence[int], closing: Sequence[int] = (), unknown: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One pass tells both; what was read of the target is forgotten."""
        ids = torch.tensor([[*start, *null[:-1]]], device=self.mask.device).expand(len(self.mask), -1)
        outputs = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.hidden),
            attention_mask=self.mask,
            decoder_input_ids=ids,
            use_cache=True,
        )
        del self.hidden  # the cache has what is needed of it
        logits = outputs.logits[:, len(start) - 1 :]
        wanted = torch.tensor(null, device=ids.device).expand(len(ids), -1).unsqueeze(2)
        logp = log_probabilities(logits, unknown)
        likely = logp.gather(2, wanted).squeeze(2)
        if closing:
            likely[:, -1] = logp[:, -1, [null[-1], *closing]].logsumexp(dim=1)
        self.cache: Any = outputs.past_key_values  # transformers' EncoderDecoderCache
        for layer in self.cache.self_attention_cache.layers:
            layer.keys, layer.values = layer.keys[:, :, : len(start)], layer.values[:, :, : len(start)]
        return likely.sum(dim=1), logits[:, 0].contiguous()

    def read(self, tokens: Tensor) -> Tensor:
        """One step of the decoder."""
        # What the encoder gave is in the cache: here only its shape is asked for.
        hidden = self._like.expand(*self.mask.shape, -1)
        outputs = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=self.mask,
            decoder_input_ids=tokens.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: Tensor = outputs.logits[:, -1]
        return logits

    def repeat(self, times: int) -> None:
        """Cache and mask."""
        self.cache.batch_repeat_interleave(times)
        self.mask = self.mask.repeat_interleave(times, dim=0)

    def select(self, places: Tensor) -> None:
        """Cache and mask."""
        self.cache.batch_select_indices(places)
        self.mask = self.mask[places]

    def exchange(self, places: Tensor) -> None:
        """What the encoder gave is the same."""
        self.cache.self_attention_cache.batch_select_indices(places)

    def join(self, others: Sequence[Self]) -> None:
        """Padded to the longest prompt."""
        every = (self, *others)
        length = max(each.mask.shape[1] for each in every)
        self.mask = torch.cat([pad(each.mask, (0, length - each.mask.shape[1])) for each in every])
        for own, *layers in zip(*(each.cache.self_attention_cache.layers for each in every), strict=True):
            own.keys = torch.cat([own.keys, *(layer.keys for layer in layers)])
            own.values = torch.cat([own.values, *(layer.values for layer in layers)])
        for read in zip(*(each.cache.cross_attention_cache.layers for each in every), strict=True):
            more = [(0, 0, 0, length - layer.keys.shape[2]) for layer in read]
            read[0].keys = torch.cat([pad(layer.keys, by) for layer, by in zip(read, more, strict=True)])
            read[0].values = torch.cat([pad(layer.values, by) for layer, by in zip(read, more, strict=True)])
