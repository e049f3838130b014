"""Decoding: the likeliest answers of a sequence-to-sequence model, and how likely "unanswerable" is.

The encoder has run once. The first pass of the decoder scores the unanswerable target, and is the first step of the
answers too. Beam search follows transformers' (`early_stopping=False`); one beam is greedy search.

The answers are those of the distribution without the unanswerable target: where a hypothesis could still become that
target, the target's own probability is taken from it. So the best answer is found even where the model would rather
not give one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput


@dataclass(frozen=True, slots=True)
class Search:
    """How answers are searched: so many `beams`, at most `max_tokens` tokens, the end among them.

    A hypothesis of n tokens ranks by its log-probability divided by n ** `length_penalty`.
    """

    beams: int = 1
    length_penalty: float = 1.0
    max_tokens: int = 30


# Whether each of some texts, given by token ids, is over: it holds a text at which answers stop.
Stops = Callable[[Sequence[Sequence[int]]], Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Target:
    """What the decoder begins with (`start`), and the unanswerable target: `null`, token ids with the `end` last.

    `stops` ends a text before its `end`; its log-probability is then that of the tokens that were written.
    """

    start: Sequence[int]
    null: Sequence[int]
    end: int
    stops: Stops | None = None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Token ids that a model may write, without start and end, and their log-probability (natural, the end's too)."""

    tokens: Sequence[int]
    score: float
    rank: float


@torch.inference_mode()
def search(
    model: Any, hidden: Tensor, mask: Tensor, target: Target, how: Search
) -> tuple[list[float], list[list[Hypothesis]]]:
    """The log-probability of the unanswerable target, and the best answers, best first, for each row of a batch.

    `hidden` (rows, length, width) is the encoder's output, `mask` (rows, length) its attention mask.
    """
    beams = _Beams(model, hidden, mask, target, how)
    while beams.rows:
        beams.step()
    return beams.null.tolist(), [sorted(found, key=lambda each: -each.rank) for found in beams.found]


class _Beams:
    """The state of a search. Tensors have a row for each question that is still open, and a column for each beam.

    `tokens` (rows, beams, step) are the hypotheses, `scores` (rows, beams) their log-probabilities, `logp`
    (rows, beams, vocabulary) those of the next token, `on_null` whether a hypothesis is a beginning of the target.
    `questions` says which row of the batch each is.
    """

    def __init__(self, model: Any, hidden: Tensor, mask: Tensor, target: Target, how: Search) -> None:
        self.model, self.target, self.how = model, target, how
        self.hidden, self.mask = hidden, mask
        self.found: list[list[Hypothesis]] = [[] for _ in hidden]
        self.questions = list(range(len(hidden)))
        first = self._first_pass()
        shape = (len(hidden), how.beams)
        self.logp = first.unsqueeze(1).expand(*shape, -1)
        self.tokens = torch.empty((*shape, 0), dtype=torch.long, device=hidden.device)
        self.scores = torch.full(shape, float("-inf"), device=hidden.device)
        self.scores[:, 0] = 0.0  # all beams are one still
        self.on_null = torch.ones(shape, dtype=torch.bool, device=hidden.device)
        if how.beams > 1:
            self.cache.batch_repeat_interleave(how.beams)
            self.hidden = hidden.repeat_interleave(how.beams, dim=0)
            self.mask = mask.repeat_interleave(how.beams, dim=0)

    @property
    def rows(self) -> int:
        """How many questions are still open."""
        return len(self.questions)

    def _first_pass(self) -> Tensor:
        """Score the unanswerable target; log-probabilities of an answer's first token, (rows, vocabulary)."""
        start, null = list(self.target.start), list(self.target.null)
        ids = torch.tensor([start + null[:-1]], device=self.hidden.device).expand(len(self.hidden), -1)
        outputs = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.hidden),
            attention_mask=self.mask,
            decoder_input_ids=ids,
            use_cache=True,
        )
        logp = outputs.logits[:, len(start) - 1 :].float().log_softmax(dim=-1)
        wanted = torch.tensor(null, device=ids.device).expand(len(ids), -1)
        self.null = logp.gather(2, wanted.unsqueeze(2)).sum(dim=(1, 2))
        self.open_null = self.null
        self.cache: EncoderDecoderCache = outputs.past_key_values
        for layer in self.cache.self_attention_cache.layers:  # what was read of the target is forgotten
            layer.keys, layer.values = layer.keys[:, :, : len(start)], layer.values[:, :, : len(start)]
        first: Tensor = logp[:, 0]
        return first

    def step(self) -> None:
        """Add one token to every hypothesis."""
        step, beams = self.tokens.shape[2], self.how.beams
        vocabulary = self.logp.shape[-1]
        totals = self.scores.unsqueeze(2) + self.logp
        ranks, tokens = self._without_null(totals, step).flatten(1).topk(2 * beams, dim=1)
        parents, tokens = tokens // vocabulary, tokens % vocabulary
        totals = totals.flatten(1).gather(1, parents * vocabulary + tokens)
        ended = tokens == self.target.end
        self._keep_ended(ranks, totals, parents, ended & (torch.arange(2 * beams, device=ended.device) < beams))
        # The best that have not ended go on, in their order.
        chosen = ended.to(torch.uint8).argsort(dim=1, stable=True)[:, :beams]
        parents, tokens, self.scores = (each.gather(1, chosen) for each in (parents, tokens, totals))
        ranks = ranks.gather(1, chosen)
        grown = self.tokens.gather(1, parents.unsqueeze(2).expand(-1, -1, step))
        self.tokens = torch.cat((grown, tokens.unsqueeze(2)), dim=2)
        on_path = self.target.null[step] if step < len(self.target.null) else -1
        self.on_null = self.on_null.gather(1, parents) & (tokens == on_path)
        if self.target.stops is not None:
            ranks = self._keep_stopped(self.target.stops, ranks)
        open_rows = self._still_open(ranks, step + 1)
        if not open_rows:
            self.questions = []
            return
        self._select(open_rows, parents)
        self._read(self.tokens[:, :, -1])

    def _without_null(self, totals: Tensor, step: int) -> Tensor:
        """What hypotheses rank by: their log-probability without that of the unanswerable target."""
        ranks = totals.clone()
        if step == 0:
            ranks[:, :, self.target.end] = float("-inf")  # an empty text answers nothing
        if step < len(self.target.null):
            token = self.target.null[step]
            own, null = totals[:, :, token], self.open_null.unsqueeze(1)
            rest = own + torch.log1p(-torch.exp((null - own).clamp(max=0.0)))
            if step == len(self.target.null) - 1:
                rest = torch.full_like(rest, float("-inf"))  # that is the target itself
            ranks[:, :, token] = torch.where(self.on_null, rest, own)
        return ranks

    def _keep_ended(self, ranks: Tensor, totals: Tensor, parents: Tensor, ended: Tensor) -> None:
        """Keep the hypotheses that have ended; whatever has to wait for a GPU does so once for all of them."""
        length = self.tokens.shape[2] + 1
        rows, places = (ended & (ranks > float("-inf"))).nonzero(as_tuple=True)
        written = self.tokens[rows, parents[rows, places]].tolist()
        for row, tokens, score in zip(rows.tolist(), written, totals[rows, places].tolist(), strict=True):
            self._keep(row, tokens, score, length)

    def _keep_stopped(self, stops: Stops, ranks: Tensor) -> Tensor:
        """Keep the hypotheses in which a text stops, and go on without them; the ranks of those that are left."""
        written = self.tokens.flatten(0, 1).tolist()
        over = torch.tensor(stops(written), device=ranks.device).view(ranks.shape) & (self.scores > float("-inf"))
        for place, score in zip(over.flatten().nonzero().flatten().tolist(), self.scores[over].tolist(), strict=True):
            self._keep(place // self.how.beams, written[place], score, self.tokens.shape[2])
        self.scores = self.scores.masked_fill(over, float("-inf"))
        return ranks.masked_fill(over, float("-inf"))

    def _keep(self, row: int, written: Sequence[int], score: float, length: int) -> None:
        found = self.found[self.questions[row]]
        found.append(Hypothesis(written, score, score / length**self.how.length_penalty))
        found.sort(key=lambda each: -each.rank)
        del found[self.how.beams :]

    def _still_open(self, ranks: Tensor, length: int) -> list[int]:
        """The rows whose search goes on; what is not ended when there is no more room is kept as it is."""
        best = (ranks.amax(dim=1) / length**self.how.length_penalty).tolist()
        open_rows = []
        for row, question in enumerate(self.questions):
            found = self.found[question]
            full = len(found) == self.how.beams
            if not full or (self.how.beams > 1 and found[-1].rank < best[row]):
                open_rows.append(row)
        if length < self.how.max_tokens or not open_rows:
            return open_rows
        written, scores = self.tokens.tolist(), self.scores.tolist()
        for row in open_rows:
            for tokens, score in zip(written[row], scores[row], strict=True):
                if score > float("-inf"):
                    self._keep(row, tokens, score, length)
        return []

    def _select(self, rows: list[int], parents: Tensor) -> None:
        """Leave out the rows that are done, and bring the decoder's memory into the order of the hypotheses."""
        beams, device = self.how.beams, parents.device
        if len(rows) < self.rows:
            kept = torch.tensor(rows, device=device)
            self.tokens, self.scores, self.on_null = self.tokens[kept], self.scores[kept], self.on_null[kept]
            self.open_null, parents = self.open_null[kept], parents[kept]
            self.questions = [self.questions[row] for row in rows]
            places = (kept.unsqueeze(1) * beams + torch.arange(beams, device=device)).flatten()
            self.cache.batch_select_indices(places)
            self.hidden, self.mask = self.hidden[places], self.mask[places]
        if beams > 1:  # the beams of a question share what the encoder gave
            first = torch.arange(len(rows), device=device).unsqueeze(1) * beams
            self.cache.self_attention_cache.batch_select_indices((first + parents).flatten())

    def _read(self, tokens: Tensor) -> None:
        """Show the decoder the last token of each hypothesis."""
        outputs = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.hidden),
            attention_mask=self.mask,
            decoder_input_ids=tokens.reshape(-1, 1),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logp = outputs.logits[:, -1].float().log_softmax(dim=-1).unflatten(0, tokens.shape)
