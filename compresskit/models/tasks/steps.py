"""One token a step of a model of states, on a GPU as a CUDA graph: hundreds of small kernels are launched as one.

A step of Mamba-130M takes its GPU some 2 ms, and the CPU that launches its kernels one by one ten times as long. A
graph needs tensors that stay where they are: states are copied into its own and back.
"""

from __future__ import annotations

import copy
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from compresskit import console

# A graph takes as long to make as this many steps without one.
WORTH = 8

Made = TypeVar("Made")
Read = Callable[[Any, Any, Tensor], Tensor]
"""A pass of a model over tokens (rows, 1) after a cache: logits (rows, vocabulary); the cache's states are updated."""


class Steps:
    """The steps of one model: for each number of rows, rounded up to a power of two, a graph once it is worth one."""

    def __init__(self, model: Any, read: Read) -> None:
        self._model, self._read = weakref.ref(model), read
        self._asked: Counter[int] = Counter()
        self._graphs: dict[int, _Graph] = {}
        # Steps of what bitsandbytes packed wait for the GPU.
        self._makes = model.device.type == "cuda" and getattr(model, "quantization_method", None) != "bitsandbytes"
        self._lock = threading.Lock()  # a graph's tensors are those of one step at a time

    def step(self, cache: Any, tokens: Tensor) -> Tensor:
        """The logits (rows, vocabulary) after tokens (rows,), whose cache goes on by them."""
        rows = 1 << (len(tokens) - 1).bit_length()
        with self._lock:
            if self._makes and rows not in self._graphs:
                self._asked[rows] += 1
                if self._asked[rows] > WORTH:
                    self._make(cache, rows)
            graph = self._graphs.get(rows)
            return self._plain(cache, tokens.unsqueeze(1)) if graph is None else graph.step(states_of(cache), tokens)

    def _plain(self, cache: Any, tokens: Tensor) -> Tensor:
        return self._read(self._model(), cache, tokens)

    def _make(self, cache: Any, rows: int) -> None:
        """Make a graph; where that fails, as without memory for it, no more are made."""
        stream = torch.cuda.current_stream()
        try:
            self._graphs[rows] = _Graph(self._plain, cache, rows)
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own
            self._makes = False
            if console.is_verbose():
                console.info(f"steps are no CUDA graphs: {error}")


class _Graph:
    """A step that was captured, with its own tokens, states and logits."""

    def __init__(self, read: Callable[[Any, Tensor], Tensor], cache: Any, rows: int) -> None:
        states = states_of(cache)
        device = states[0].device
        with torch.inference_mode(False):  # they outlive the mode of the first step
            self.states = [torch.zeros((rows, *s.shape[1:]), dtype=s.dtype, device=device) for s in states]
            self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
        own = with_states(cache, self.states)
        with torch.cuda.device(device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                read(own, self.tokens)  # what is compiled or allocated at first must not be captured
                with no_waiting():
                    read(own, self.tokens)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                self.logits = read(own, self.tokens)

    def step(self, states: Sequence[Tensor], tokens: Tensor) -> Tensor:
        """As `Steps.step`; rows beyond those asked for compute what nobody reads."""
        rows = len(tokens)
        own = [state[:rows] for state in self.states]
        _copy(own, states)
        self.tokens[:rows, 0] = tokens
        self.graph.replay()
        _copy(states, own)
        return self.logits[:rows].clone()


class no_waiting:  # used as a function
    """Within it whatever waits for the GPU raises RuntimeError: found in a capture, it would break that for good."""

    def __enter__(self) -> None:
        self.before = torch.cuda.get_sync_debug_mode()
        self._set("error")

    def __exit__(self, *_: object) -> None:
        self._set(self.before)

    def _set(self, mode: int | str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that the mode is a prototype
            torch.cuda.set_sync_debug_mode(mode)


def _copy(to: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Copy tensors into others: one kernel for all of a number format."""
    for dtype in {tensor.dtype for tensor in to}:
        pairs = [(one, two) for one, two in zip(to, given, strict=True) if one.dtype == dtype]
        torch._foreach_copy_([one for one, _ in pairs], [two for _, two in pairs])


def states_of(cache: Any) -> list[Tensor]:
    """All states of a cache, (rows, …) each."""
    return [
        state
        for layer in cache.layers
        for kind in (layer.conv_states, layer.recurrent_states)
        for state in kind.values()
    ]


def with_states(cache: Any, states: Sequence[Tensor]) -> Any:
    """A cache like another one with other states."""
    made, left = copy.copy(cache), iter(states)
    made.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in made.layers:
        layer.conv_states = {key: next(left) for key in layer.conv_states}
        layer.recurrent_states = {key: next(left) for key in layer.recurrent_states}
    return made


Known = weakref.WeakKeyDictionary[Any, tuple[int, Made]]
"""What was made for models, each beside the hash of what it has taken for granted."""
_KNOWN: Known[Steps] = weakref.WeakKeyDictionary()


def steps_of(model: Any, read: Read) -> Steps:
    """The steps of a model: those that are known for it, as long as it computes as it did."""
    if model.device.type != "cuda":
        return Steps(model, read)
    return known_for(model, _KNOWN, lambda: Steps(model, read))


def known_for(model: Any, known: Known[Made], make: Callable[[], Made]) -> Made:
    """What is `known` for a model, as long as that computes as it did; else it is made, and known from then on."""
    how, found = hash(tuple(told(model))), known.get(model)
    if found is None or found[0] != how:
        found = known[model] = how, make()
    return found[1]


def told(model: Any) -> Iterator[Hashable]:
    """What a graph has taken for granted.

    Where weights and masks lie, which adapters are on, in which numbers it computes, how 8 bits are multiplied.
    """
    kind = model.device.type
    yield torch.get_float32_matmul_precision()
    yield torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    for tensor in (*model.parameters(), *model.buffers()):
        yield tensor.data_ptr()
    for module in model.modules():
        if hasattr(module, "merged_adapters"):  # PEFT's layers
            yield module.merged, module.disable_adapters, tuple(module.active_adapters)
        yield getattr(module, "activations", None)
