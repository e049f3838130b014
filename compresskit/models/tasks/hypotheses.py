"""The hypotheses of a search: greedy search, or beam search as transformers' (`early_stopping=False`).

The answers are those of the distribution without the unanswerable target: where a hypothesis could still become that
target, the target's own probability is taken from it. Where texts also end at a stop, whatever is over and answers
nothing is left out in the same way. So the best answer is found even where the model would rather not give one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compresskit.models.tasks.memory import Memory, log_probabilities

# Rows that are done are carried along until they are this part of all: to leave them out copies the others.
DONE = 0.25


@dataclass(frozen=True, slots=True)
class Search:
    """How answers are searched: so many `beams`, at most `max_tokens` tokens, the end among them.

    A hypothesis of n tokens ranks by its log-probability divided by n ** `length_penalty`.
    """

    beams: int = 1
    length_penalty: float = 1.0
    max_tokens: int = 30


# Something told of each of some texts, which are given by their token ids.
Tell = Callable[[Sequence[Sequence[int]]], Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Stops:
    """Texts at which answers stop, such as a line break.

    `over` tells whether a text holds one. `void` tells whether what stands before it (all of a text that holds none)
    answers nothing: it is empty, or the word for unanswerable. The tokens `closing` stop the unanswerable target right
    after its word.
    """

    over: Tell
    void: Tell
    closing: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """What the decoder begins with (`start`), and the unanswerable target: `null`, token ids with the `end` last.

    `stops` ends a text before its `end`; its log-probability is then that of the tokens that were written. `unknown`
    are token ids (n,) that stand for no text, and are never written.
    """

    start: Sequence[int]
    null: Sequence[int]
    end: int
    stops: Stops | None = None
    unknown: Tensor | None = None

    @property
    def closing(self) -> Sequence[int]:
        """The tokens that end the unanswerable target beside the `end`."""
        return self.stops.closing if self.stops is not None else ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Token ids that a model may write, without start and end, and their log-probability (natural, the end's too)."""

    tokens: Sequence[int]
    score: float
    rank: float


class Rows(ABC):
    """Questions whose answers are being written, all of them so many tokens long (`written`).

    `questions` says which each row is, `closed` whether its search is over, `found` what was found for each question.
    Tensors have a row for each question, and a column for each beam: `logp` (rows, beams, vocabulary) are the
    log-probabilities of the next token, `scores` (rows, beams) those of the hypotheses, `on_null` whether a hypothesis
    is a beginning of the unanswerable target, `null` (rows,) the log-probability of that. The `memory` has a row for
    each hypothesis.
    """

    TENSORS: tuple[str, ...] = ("logp", "scores", "on_null", "null")

    def __init__(
        self,
        memory: Memory,
        target: Target,
        how: Search,
        questions: Sequence[int],
        found: Mapping[int, list[Hypothesis]],
    ) -> None:
        self.memory, self.target, self.how = memory, target, how
        self.questions, self.found = list(questions), found
        self.closed = [False] * len(self.questions)
        self.written = 0
        self.null, logits = memory.first(target.start, target.null, target.closing, target.unknown)
        self.logp = log_probabilities(logits, target.unknown).unsqueeze(1)
        shape, device = (len(self.questions), how.beams), self.null.device
        self.scores = torch.full(shape, float("-inf"), device=device)
        self.scores[:, 0] = 0.0  # all beams are one still
        self.on_null = torch.ones(shape, dtype=torch.bool, device=device)
        if how.beams > 1:
            self.logp = self.logp.expand(*shape, -1)
            memory.repeat(how.beams)

    @property
    def open(self) -> bool:
        """Whether the search goes on in any row."""
        return not all(self.closed)

    @property
    def size(self) -> int:
        """How many tokens of prompts the memory holds."""
        return self.memory.size

    @abstractmethod
    def step(self) -> None:
        """Add one token to every hypothesis; keep those that end with it."""

    def join(self, others: Sequence[Rows]) -> None:
        """Take in the rows of others that have as many tokens."""
        if not others:
            return
        every = (self, *others)
        self.questions = [question for rows in every for question in rows.questions]
        self.closed = [closed for rows in every for closed in rows.closed]
        for name in self.TENSORS:
            setattr(self, name, torch.cat([getattr(rows, name) for rows in every]))
        self.memory.join([rows.memory for rows in others])

    def drop_closed(self) -> None:
        """Leave out the rows whose search is over."""
        rows = [row for row, closed in enumerate(self.closed) if not closed]
        if len(rows) == len(self.closed):
            return
        self.questions, self.closed = [self.questions[row] for row in rows], [False] * len(rows)
        kept = torch.tensor(rows, device=self.null.device)
        for name in self.TENSORS:
            setattr(self, name, getattr(self, name)[kept])
        places = (kept.unsqueeze(1) * self.how.beams + torch.arange(self.how.beams, device=kept.device)).flatten()
        self.memory.select(places)

    def _read(self, tokens: Tensor) -> None:
        """Show the model the last token of each hypothesis, (rows, beams)."""
        logits = self.memory.read(tokens.reshape(-1))
        self.logp = log_probabilities(logits, self.target.unknown).view(*tokens.shape, -1)

    def _without_null(self, totals: Tensor) -> Tensor:
        """What hypotheses rank by: their log-probability without that of the unanswerable target."""
        step, null = self.written, self.target.null
        if step >= len(null):
            return totals
        ranks = totals.clone()
        ends = [self.target.end, *self.target.closing]
        if step == 0:
            ranks[:, :, ends] = float("-inf")  # an empty text answers nothing
        if step == len(null) - 1:  # that is the target itself
            ranks[:, :, ends] = ranks[:, :, ends].masked_fill(self.on_null.unsqueeze(2), float("-inf"))
            return ranks
        own = totals[:, :, null[step]]
        rest = own + torch.log1p(-torch.exp((self.null.unsqueeze(1) - own).clamp(max=0.0)))
        ranks[:, :, null[step]] = torch.where(self.on_null, rest, own)
        return ranks

    def _stay_on_null(self, tokens: Tensor) -> None:
        """Which hypotheses are a beginning of the unanswerable target with these tokens, (rows, beams), still."""
        if self.written < len(self.target.null):
            self.on_null = self.on_null & (tokens == self.target.null[self.written])

    @property
    def _last(self) -> bool:
        """Whether there is room for one more token only."""
        return self.written + 1 == self.how.max_tokens

    def _keep(self, row: int, tokens: Sequence[int], score: float, length: int) -> None:
        """Keep a hypothesis of `length` tokens among the best of its question."""
        found = self.found[self.questions[row]]
        found.append(Hypothesis(tokens, score, score / length**self.how.length_penalty))
        found.sort(key=lambda each: -each.rank)
        del found[self.how.beams :]

    def _go_on(self, tokens: Tensor) -> None:
        """Read the tokens that were added, where a search goes on."""
        if self.open:
            self._read(tokens)


class Greedy(Rows):
    """One hypothesis for each question. Its tokens are told to the CPU at each step, which waits for a GPU once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._texts: dict[int, list[int]] = {question: [] for question in self.questions}

    def join(self, others: Sequence[Rows]) -> None:
        """Take in the rows of others that have as many tokens."""
        super().join(others)
        for rows in others:
            assert isinstance(rows, Greedy)
            self._texts.update(rows._texts)

    def step(self) -> None:
        """The likeliest token of each row; the next one where a text would be over with it that answers nothing."""
        totals = self.scores.unsqueeze(2) + self.logp
        ranks = self._without_null(totals)
        while True:
            tokens = ranks.argmax(dim=2)
            self.scores = totals.gather(2, tokens.unsqueeze(2)).squeeze(2)
            # One copy from the GPU: double precision holds both exactly.
            told = torch.cat((tokens.double(), self.scores.double()), dim=1).tolist()
            ids = [int(token) for token, _ in told]
            texts = self._texts_with(ids)
            over = self._over(texts, ids)
            void = self._void(ranks, tokens, {row: texts[row] for row in over})
            if not void:
                break
            ranks = ranks.clone()
            ranks[void, 0, tokens[void, 0]] = float("-inf")
        self._stay_on_null(tokens)
        self.written += 1
        self._texts.update({self.questions[row]: text for row, text in texts.items()})
        for row in over:
            self._keep(row, texts[row], told[row][1], self.written)
            self.closed[row] = True
        if self.closed.count(True) >= DONE * len(self.closed) and self.open:
            kept = [row for row, closed in enumerate(self.closed) if not closed]
            tokens = tokens[torch.tensor(kept, device=tokens.device)]
            self.drop_closed()
        self._go_on(tokens)

    def _texts_with(self, tokens: Sequence[int]) -> dict[int, list[int]]:
        """The texts of the open rows with their next token; the end is no part of a text."""
        texts = {row: self._texts[self.questions[row]] for row, closed in enumerate(self.closed) if not closed}
        return {row: text if tokens[row] == self.target.end else [*text, tokens[row]] for row, text in texts.items()}

    def _over(self, texts: Mapping[int, Sequence[int]], tokens: Sequence[int]) -> set[int]:
        """The rows of texts that are over, by their end, a text at which they stop, or for want of room."""
        if self._last:
            return set(texts)
        over = {row for row in texts if tokens[row] == self.target.end}
        if self.target.stops is not None:
            going = [row for row in texts if row not in over]
            stopped = self.target.stops.over([texts[row] for row in going])
            over |= {row for row, stops in zip(going, stopped, strict=True) if stops}
        return over

    def _void(self, ranks: Tensor, tokens: Tensor, texts: Mapping[int, Sequence[int]]) -> list[int]:
        """The rows of texts that answer nothing, where any other token is left."""
        if self.target.stops is None:
            return []
        void = self.target.stops.void(list(texts.values()))
        found = [row for row, nothing in zip(texts, void, strict=True) if nothing]
        return [row for row in found if float(ranks[row, 0, tokens[row, 0]]) > float("-inf")]


class Beams(Rows):
    """Several hypotheses for each question; `tokens` (rows, beams, written) are those that they have."""

    TENSORS = (*Rows.TENSORS, "tokens")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tokens = torch.empty((*self.scores.shape, 0), dtype=torch.long, device=self.scores.device)

    def step(self) -> None:
        """The best continuations of all hypotheses of a row."""
        beams, vocabulary = self.how.beams, self.logp.shape[-1]
        totals = self.scores.unsqueeze(2) + self.logp
        ranks, parents, tokens, over = self._candidates(self._without_null(totals).flatten(1))
        totals = totals.flatten(1).gather(1, parents * vocabulary + tokens)
        self._keep_over(ranks, totals, parents, tokens, over & (torch.arange(2 * beams, device=over.device) < beams))
        # The best that are not over go on, in their order.
        chosen = over.to(torch.uint8).argsort(dim=1, stable=True)[:, :beams]
        parents, tokens, self.scores, ranks = (each.gather(1, chosen) for each in (parents, tokens, totals, ranks))
        if self.target.stops is not None:  # each hypothesis has one end, but may stop in many ways: all can be over
            over = over.gather(1, chosen)
            self.scores, ranks = (each.masked_fill(over, float("-inf")) for each in (self.scores, ranks))
        grown = self.tokens.gather(1, parents.unsqueeze(2).expand(-1, -1, self.written))
        self.tokens = torch.cat((grown, tokens.unsqueeze(2)), dim=2)
        self.on_null = self.on_null.gather(1, parents)
        self._stay_on_null(tokens)
        self.written += 1
        self._close(ranks)
        first = torch.arange(len(parents), device=parents.device).unsqueeze(1) * beams
        self.memory.exchange((first + parents).flatten())
        if self.open:
            self.drop_closed()
        self._go_on(self.tokens[:, :, -1])

    def _candidates(self, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best continuations by their ranks (rows, beams * vocabulary): more than go on, as some are over.

        Ranks, parents, tokens, and whether they are over, (rows, 2 * beams) each. What is over and answers nothing is
        none of them.
        """
        while True:
            best, places = ranks.topk(2 * self.how.beams, dim=1)
            parents, tokens = places // self.logp.shape[-1], places % self.logp.shape[-1]
            over = tokens == self.target.end
            if self.target.stops is None:
                return best, parents, tokens, over
            over, void = self._stopped(self.target.stops, parents, tokens)
            void &= best > float("-inf")
            if not void.any():
                return best, parents, tokens, over
            ranks = ranks.scatter(1, places, best.masked_fill(void, float("-inf")))

    def _stopped(self, stops: Stops, parents: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Which continuations are over, and which of them answer nothing, (rows, 2 * beams) each."""
        grown = self.tokens.gather(1, parents.unsqueeze(2).expand(-1, -1, self.written))
        written = torch.cat((grown, tokens.unsqueeze(2)), dim=2).flatten(0, 1).tolist()
        ended = [text[-1] == self.target.end for text in written]
        texts = [text[:-1] if end else text for text, end in zip(written, ended, strict=True)]
        over = [end or stopped for end, stopped in zip(ended, stops.over(texts), strict=True)]
        void = [False] * len(texts)
        done = [number for number, each in enumerate(over) if each or self._last]
        for number, nothing in zip(done, stops.void([texts[number] for number in done]), strict=True):
            void[number] = nothing
        told = torch.tensor([over, void], device=tokens.device).view(2, *tokens.shape)
        return told[0], told[1]

    def _keep_over(self, ranks: Tensor, totals: Tensor, parents: Tensor, tokens: Tensor, over: Tensor) -> None:
        """Keep the hypotheses that are over; whatever has to wait for a GPU does so once for all of them."""
        rows, places = (over & (ranks > float("-inf"))).nonzero(as_tuple=True)
        written = torch.cat((self.tokens[rows, parents[rows, places]], tokens[rows, places].unsqueeze(1)), dim=1)
        for row, text, score in zip(rows.tolist(), written.tolist(), totals[rows, places].tolist(), strict=True):
            self._keep(row, text[:-1] if text[-1] == self.target.end else text, score, self.written + 1)

    def _close(self, ranks: Tensor) -> None:
        """Close the rows to which nothing better can come; where there is no more room, keep what has not ended."""
        best = (ranks.amax(dim=1) / self.written**self.how.length_penalty).tolist()
        for row, question in enumerate(self.questions):
            found = self.found[question]
            full = len(found) == self.how.beams and found[-1].rank >= best[row]
            self.closed[row] = full or best[row] == float("-inf")
        if self.written < self.how.max_tokens:
            return
        written, scores = self.tokens.tolist(), self.scores.tolist()
        for row, closed in enumerate(self.closed):
            if not closed:
                for tokens, score in zip(written[row], scores[row], strict=True):
                    if score > float("-inf"):
                        self._keep(row, tokens, score, self.written)
        self.closed = [True] * len(self.closed)
