"""One token a step of a model of states, on a GPU as a CUDA graph: hundreds of small kernels are launched as one.

A step of Mamba-130M takes its GPU some 2 ms, and the CPU that launches its kernels one by one ten times as long. A
graph needs tensors that stay where they are: states are copied into its own and back.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from compresskit import console

# A graph takes as long to make as this many steps without one.
WORTH = 8

Read = Callable[[Any, Any, Tensor], Tensor]
"""A pass of a model over tokens (rows, 1) after a cache: logits (rows, vocabulary); the cache's states are updated."""


class Steps:
    """The steps of one model: for each number of rows, rounded up to a power of two, a graph once it is worth one."""

    def __init__(self, model: Any, read: Read, like: Callable[[Any, Sequence[Tensor]], Any]) -> None:
        """`like` makes a cache like another one, with other states."""
        self._model, self._read, self.like = weakref.ref(model), read, like
        self._asked: Counter[int] = Counter()
        self._graphs: dict[int, _Graph | None] = {}

    def read(self, cache: Any, tokens: Tensor) -> Tensor:
        """Without a graph."""
        return self._read(self._model(), cache, tokens)

    def step(self, cache: Any, states: Sequence[Tensor], tokens: Tensor) -> Tensor:
        """`Read` for the `states` of a cache and tokens (rows,), on whatever device."""
        rows = 1 << (len(tokens) - 1).bit_length()
        if tokens.is_cuda and rows not in self._graphs:
            self._asked[rows] += 1
            if self._asked[rows] > WORTH:
                self._graphs[rows] = self._made(cache, states, rows)
        graph = self._graphs.get(rows)
        return self.read(cache, tokens.unsqueeze(1)) if graph is None else graph.step(states, tokens)

    def _made(self, cache: Any, states: Sequence[Tensor], rows: int) -> _Graph | None:
        """A graph, or None for a model whose step waits for its GPU, as bitsandbytes' 8 bits do."""
        own = [state.new_zeros((rows, *state.shape[1:])) for state in states]
        try:
            return _Graph(self.read, self.like(cache, own), own)
        except RuntimeError as error:
            if console.is_verbose():
                console.info(f"steps of {rows} rows take no CUDA graph: {error}")
            return None


class _Graph:
    """A step that was captured, with its own tokens, states and logits."""

    def __init__(self, read: Callable[[Any, Tensor], Tensor], cache: Any, states: Sequence[Tensor]) -> None:
        self.states, self.tokens = states, torch.zeros(len(states[0]), 1, dtype=torch.long, device=states[0].device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is compiled or allocated at first must not be captured
            for _ in range(2):
                read(cache, self.tokens)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = read(cache, self.tokens)

    def step(self, states: Sequence[Tensor], tokens: Tensor) -> Tensor:
        """As `Steps.step`; rows beyond those asked for compute what nobody reads."""
        rows = len(tokens)
        own = [state[:rows] for state in self.states]
        torch._foreach_copy_(own, list(states))
        self.tokens[:rows, 0] = tokens
        self.graph.replay()
        torch._foreach_copy_(list(states), own)
        return self.logits[:rows].clone()


_KNOWN: weakref.WeakKeyDictionary[Any, tuple[int, Steps]] = weakref.WeakKeyDictionary()


def steps_of(model: Any, read: Read, like: Callable[[Any, Sequence[Tensor]], Any]) -> Steps:
    """The steps of a model: those that are known for it, as long as its weights lie where they did."""
    where = hash(tuple(each.data_ptr() for each in (*model.parameters(), *model.buffers())))
    known = _KNOWN.get(model)
    if known is None or known[0] != where:
        known = _KNOWN[model] = where, Steps(model, read, like)
    return known[1]
