"""Passes of a reader over batches of windows, of which only the best spans come back.

A batch goes to the model's device as one tensor of small numbers, and a few numbers for each window return. On a GPU
nobody waits for either: the copies run beside the computation, and a pass over a shape that comes again and again is
launched as one CUDA graph. A MiniLM has a hundred kernels so small that launching them one by one takes the CPU about
as long as they take the GPU.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from compresskit import console
from compresskit.models.answering import AnswerOptions
from compresskit.models.tasks.readings import Reading
from compresskit.models.tasks.span_batches import span_logits
from compresskit.models.tasks.steps import Known, known_for, no_waiting

# A pass over a shape is a graph from the third one on: making it costs about one pass more.
WORTH = 2
# Each keeps some memory of the driver. Data sets have a dozen shapes that are worth it.
MOST_GRAPHS = 48
# Numbers beside the tokens of a window: its length, first and last (exclusive) token of the context, the null position.
FACTS = 4


@dataclass(frozen=True, slots=True)
class BestSpans:
    """Best spans of a batch: `scores` fp32, `starts` and `ends` int64 token positions, each of shape (batch, n)."""

    scores: Tensor
    starts: Tensor
    ends: Tensor


def best_spans(logits: Tensor, context: Tensor, n_best: int, max_answer_length: int) -> BestSpans:
    """The `n_best` spans of highest start + end logit inside the context, of at most `max_answer_length` tokens.

    `logits` is (batch, length, 2), `context` a boolean (batch, length). Every span is compared, on the model's device:
    the official practice looks only at those of the 20 best starts and 20 best ends.
    """
    scores = logits.masked_fill(~context.unsqueeze(-1), float("-inf"))
    length = scores.shape[1]
    width = min(max_answer_length, length)
    ends = nn.functional.pad(scores[..., 1], (0, width - 1), value=float("-inf")).unfold(1, width, 1)
    pairs = (scores[..., 0].unsqueeze(-1) + ends).flatten(1)
    top = pairs.topk(min(n_best, pairs.shape[1]), dim=1)
    starts = top.indices // width
    return BestSpans(top.values, starts, starts + top.indices % width)


@dataclass(frozen=True, slots=True)
class How:
    """What a pass is told beside its windows: whether the model reads types and a mask, which spans are looked for."""

    with_types: bool
    with_mask: bool
    n_best: int
    longest: int


def packed(reading: Reading, rows: Sequence[int], length: int, pad_id: int, with_types: bool, pinned: bool) -> Tensor:
    """Some windows as one int32 tensor (rows, columns) of the CPU, padded to `length`: tokens, types, `FACTS`."""
    parts = 2 if with_types else 1
    batch = torch.empty((len(rows), parts * length + FACTS), dtype=torch.int32, pin_memory=pinned)
    numbers = batch.numpy()
    numbers[:, :length] = pad_id
    numbers[:, length:-FACTS] = 0
    for line, row in zip(numbers, rows, strict=True):
        tokens = reading.ids[row]
        line[: len(tokens)] = tokens
        if with_types:
            line[length : length + len(tokens)] = reading.types[row]
    numbers[:, -FACTS:] = [
        (len(reading.ids[row]), reading.first[row], reading.last[row], reading.null[row]) for row in rows
    ]
    return batch


def asked(model: Any, batch: Tensor, how: How) -> Tensor:
    """One pass over a packed batch on the model's device: null score, scores, starts and ends, fp32 (rows, 1 + 3 n).

    Positions are whole numbers far below 2^24, which fp32 holds exactly.
    """
    length = (batch.shape[1] - FACTS) // (2 if how.with_types else 1)
    lengths, first, last, null = batch[:, -FACTS:].long().chunk(FACTS, dim=1)
    position = torch.arange(length, device=batch.device)
    inputs = {"input_ids": batch[:, :length].long()}
    if how.with_mask:
        inputs["attention_mask"] = (position < lengths).long()
    if how.with_types:
        inputs["token_type_ids"] = batch[:, length:-FACTS].long()
    logits = span_logits(model, inputs)
    best = best_spans(logits, (position >= first) & (position < last), how.n_best, how.longest)
    null_score = logits.gather(1, null.unsqueeze(-1).expand(-1, 1, 2)).sum(dim=2)
    return torch.cat((null_score, best.scores, best.starts.float(), best.ends.float()), dim=1)


class Launched(Protocol):
    """A pass that can be launched again: a CUDA graph."""

    def __call__(self, batch: Tensor) -> Tensor:
        """As `asked`, of a batch of the shape that it was made for; the next launch overwrites what is returned."""


class Graph:
    """A pass that was captured, with its own batch and result; memory between them is shared with others of `pool`."""

    def __init__(self, compute: Callable[[Tensor], Tensor], batch: Tensor, device: torch.device, pool: Any) -> None:
        self.batch = torch.empty_like(batch, device=device, pin_memory=False)
        self.graph = torch.cuda.CUDAGraph()
        # Not by `torch.cuda.graph`, which waits for the GPU and gives all memory back that was held for later passes.
        self.graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            self.result = compute(self.batch)
        finally:
            self.graph.capture_end()

    def __call__(self, batch: Tensor) -> Tensor:
        """As `Launched`."""
        self.batch.copy_(batch, non_blocking=True)
        self.graph.replay()
        return self.result


class Passes:
    """The passes of one model: by shape, a graph once it is worth one. On a CPU each is computed at once.

    With `graphs` false none is made.
    """

    def __init__(self, model: Any, *, graphs: bool) -> None:
        self._model = weakref.ref(model)
        self.device: torch.device = model.device
        self.on_gpu = self.device.type == "cuda"
        # How many chunks of questions may be asked before the answers to one are read.
        self.ahead = 1 if self.on_gpu else 0
        # Passes of what bitsandbytes packed wait for the GPU.
        self._makes = graphs and getattr(model, "quantization_method", None) != "bitsandbytes"
        self._asked: Counter[Any] = Counter()
        self._lock = threading.Lock()  # a graph's tensors are those of one pass at a time
        self._graphs: dict[Any, Launched] = {}
        self._stream = _stream_of(self.device) if self.on_gpu else None
        self._pool = torch.cuda.graph_pool_handle() if self.on_gpu else None

    @property
    def makes_graphs(self) -> bool:
        """Whether a pass that comes again and again becomes a CUDA graph."""
        return self._makes

    @torch.inference_mode()
    def ask(self, batch: Tensor, how: How) -> Tensor:
        """Launch a pass over a packed batch of the CPU; its result is on the CPU once what `mark` returns has waited.

        See `asked` for the result.
        """
        if self._stream is None:
            return self._result(batch, how)
        with self._lock, torch.cuda.stream(self._stream):
            result = self._result(batch, how)
            found = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            return found.copy_(result, non_blocking=True)

    def begin(self) -> None:
        """Let passes wait for what the GPU was given before, such as the weights."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def mark(self) -> Callable[[], None]:
        """A function that waits until the results of all passes so far are on the CPU."""
        if self._stream is None:
            return lambda: None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
        event.record(self._stream)
        return event.synchronize

    def _result(self, batch: Tensor, how: How) -> Tensor:
        key = (batch.shape, how)
        graph = self._graphs.get(key)
        if graph is None and self._makes and len(self._graphs) < MOST_GRAPHS:
            self._asked[key] += 1
            if self._asked[key] > WORTH:
                graph = self._make(batch, how)
        if graph is not None:
            return graph(batch)
        return asked(self._model(), batch.to(self.device, non_blocking=True), how)

    def _make(self, batch: Tensor, how: How) -> Launched | None:
        """A graph; where that fails, as for a model that waits for the GPU, None, and no more are tried."""
        try:
            if not self._graphs:
                with no_waiting():  # found in a capture, what waits for the GPU would break that for good
                    asked(self._model(), batch.to(self.device, non_blocking=True), how)
            graph = Graph(lambda given: asked(self._model(), given, how), batch, self.device, self._pool)
        except RuntimeError as error:
            self._makes = False
            if console.is_verbose():
                console.info(f"passes are no CUDA graphs: {error}")
            return None
        self._graphs[batch.shape, how] = graph
        return graph


@functools.cache
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    """The stream of all passes: a capture needs another than the usual one, and each has memory of its own."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own


_KNOWN: Known[Passes] = weakref.WeakKeyDictionary()


def passes_of(model: Any, *, graphs: bool) -> Passes:
    """The passes of a model; with `graphs` on a GPU those that are known for it, as long as it computes as it did."""
    if not graphs or model.device.type != "cuda":
        return Passes(model, graphs=False)
    return known_for(model, _KNOWN, lambda: Passes(model, graphs=True))


def how_of(with_types: bool, with_mask: bool, options: AnswerOptions) -> How:
    """What passes are told by options of answering."""
    return How(with_types, with_mask, options.n_best, options.max_answer_length)


def in_order(results: Sequence[tuple[Sequence[int], Tensor]], windows: int, n_best: int) -> tuple[Any, Any, Any, Any]:
    """Results of passes by the rows of their windows: null scores (windows,), and scores, starts, ends (windows, n).

    Where a window has fewer spans than `n_best`, scores are -inf.
    """
    null = np.full(windows, np.inf, np.float32)
    scores = np.full((windows, n_best), -np.inf, np.float32)
    starts, ends = np.zeros((windows, n_best), np.int64), np.zeros((windows, n_best), np.int64)
    for rows, result in results:
        numbers = result.numpy()
        n = (numbers.shape[1] - 1) // 3
        null[rows] = numbers[:, 0]
        scores[rows, :n], starts[rows, :n], ends[rows, :n] = np.split(numbers[:, 1:], 3, axis=1)
    return null, scores, starts, ends
