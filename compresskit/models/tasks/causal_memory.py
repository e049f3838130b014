"""The memories of models that go on with a text: keys and values of attention, or states that do not grow."""

from __future__ import annotations

import copy
import functools
import inspect
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionLayer

from compresskit.errors import InputError
from compresskit.models.tasks.memory import Memory, log_probabilities

# Fewer tokens than these are not worth a pass of their own.
LEAST = 32
# How models call their memory, in arguments and in outputs (transformers 5.24 calls all of them `cache`).
NAMES = ("cache_params", "past_key_values", "cache")


def remembered(model: Any, prompts: Sequence[Sequence[int]], shared: Shared | None = None) -> Memory:
    """The memory of some prompts, given by their token ids; what they `shared` is read once.

    Raises InputError for a model that mixes layers of both sorts.
    """
    layers = DynamicCache(config=model.config).layers
    if all(type(layer) is LinearAttentionLayer for layer in layers) and layers:
        return StateMemory(model, prompts, shared or Shared(model))
    if all(isinstance(layer, DynamicLayer) for layer in layers):
        return AttentionMemory(model, prompts, shared or Shared(model))
    raise InputError(
        f"a {model.config.model_type} mixes attention with layers of states, which is not supported; "
        "take a model of either sort"
    )


class Shared:
    """What the prompts of one batch after the other begin with, such as examples: it is read once for all of them."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._ids: list[int] = []
        self._cache: Any = None

    def of(self, prompts: Sequence[Sequence[int]]) -> tuple[int, Any]:
        """How many tokens of some prompts have been read, and the cache of one row after them; 0 and an empty one else.

        At least one token of each prompt is left to read.
        """
        first, shortest = prompts[0], min(map(len, prompts))
        common = next((at for at in range(shortest) if any(p[at] != first[at] for p in prompts)), shortest)
        common = min(common, shortest - 1)
        known = len(self._ids)
        if not (known and known <= common and list(first[:known]) == self._ids):
            if common < LEAST or len(prompts) == 1:
                return 0, DynamicCache(config=self.model.config)
            known, self._ids = common, list(first[:common])
            self._cache = DynamicCache(config=self.model.config)
            read(self.model, self._cache, torch.tensor([self._ids], device=self.model.device))
        return known, self._cache


def takes(model: Any, argument: str) -> bool:
    """Whether the forward pass of a model takes an argument."""
    kind: Any = type(model)
    return argument in _arguments(kind)


@functools.cache
def _arguments(kind: Any) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


def read(model: Any, cache: Any, ids: Tensor, **more: Any) -> Tensor:
    """One pass over tokens (rows, length) that follow those of a cache: the logits after the last one."""
    name = next(name for name in NAMES if takes(model, name))
    logits: Tensor = model(input_ids=ids, use_cache=True, logits_to_keep=1, **{name: cache}, **more).logits[:, -1]
    return logits


class CausalMemory(Memory):
    """What both sorts have: prompts by their token ids, and transformers' cache."""

    cache: Any

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], shared: Shared) -> None:
        self.model, self.prompts, self.shared = model, [list(prompt) for prompt in prompts], shared

    def together(self, others: Sequence[Self]) -> Self:
        """The prompts one after the other."""
        return type(self)(self.model, [prompt for each in (self, *others) for prompt in each.prompts], self.shared)

    def first(self, start: Sequence[int], null: Sequence[int], unknown: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The prompts are read, and the target after them, by a memory that is thrown away."""
        logits = self._read_prompts()
        found, other, likely = logits, copy.copy(self), logits.new_zeros(len(logits), dtype=torch.float32)
        other.cache = copy.deepcopy(self.cache)
        for number, token in enumerate(null):
            likely = likely + log_probabilities(found, unknown)[:, token]
            if number + 1 < len(null):
                found = other.read(torch.full((len(likely),), token, device=likely.device))
        return likely, logits

    @abstractmethod
    def _read_prompts(self) -> Tensor:
        """Read them; the logits after the last token of each, (rows, vocabulary)."""


class AttentionMemory(CausalMemory):
    """Keys and values, padded on the left; `mask` (rows, length) are the tokens that count."""

    mask: Tensor

    @property
    def size(self) -> int:
        """Of the prompts, padding among it."""
        return len(self.prompts) * max(map(len, self.prompts))

    def _read_prompts(self) -> Tensor:
        known, cache = self.shared.of(self.prompts)
        self.cache, device = copy.deepcopy(cache), self.model.device
        if known:
            self.cache.batch_repeat_interleave(len(self.prompts))
        left = [prompt[known:] for prompt in self.prompts]
        length = max(map(len, left))
        own = torch.tensor([len(prompt) for prompt in left], device=device)
        mask = (torch.arange(length, device=device) >= length - own.unsqueeze(1)).long()
        self.mask = pad(mask, (known, 0), value=1)
        return self._attend(torch.tensor([[0] * (length - len(prompt)) + prompt for prompt in left], device=device))

    def read(self, tokens: Tensor) -> Tensor:
        """One more column."""
        self.mask = pad(self.mask, (0, 1), value=1)
        return self._attend(tokens.unsqueeze(1))

    def _attend(self, ids: Tensor) -> Tensor:
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        more = {"position_ids": positions} if takes(self.model, "position_ids") else {}
        return read(self.model, self.cache, ids, attention_mask=self.mask, **more)

    def repeat(self, times: int) -> None:
        """Cache and mask."""
        self.cache.batch_repeat_interleave(times)
        self.mask = self.mask.repeat_interleave(times, dim=0)

    def select(self, places: Tensor) -> None:
        """Cache and mask."""
        self.cache.batch_select_indices(places)
        self.mask = self.mask[places]

    def join(self, others: Sequence[Self]) -> None:
        """Padded on the left to the longest."""
        every = (self, *others)
        length = max(each.mask.shape[1] for each in every)
        more = [length - each.mask.shape[1] for each in every]
        self.mask = torch.cat([pad(each.mask, (by, 0)) for each, by in zip(every, more, strict=True)])
        self.prompts = [prompt for each in every for prompt in each.prompts]
        for layers in zip(*(each.cache.layers for each in every), strict=True):
            pairs = list(zip(layers, more, strict=True))
            layers[0].keys = torch.cat([pad(layer.keys, (0, 0, by, 0)) for layer, by in pairs])
            layers[0].values = torch.cat([pad(layer.values, (0, 0, by, 0)) for layer, by in pairs])


class StateMemory(CausalMemory):
    """States of a size that does not depend on what was read, as Mamba's (Gu & Dao 2023, arXiv 2312.00752).

    Padding would change them: each row reads its own tokens alone.
    """

    @property
    def size(self) -> int:
        """Of the prompts."""
        return sum(map(len, self.prompts))

    def _read_prompts(self) -> Tensor:
        """All as far as the shortest goes, then one token at a time those that have more; the states of each end.

        Prompts of like length are asked together, so that few tokens are read one at a time.
        """
        device = self.model.device
        order = sorted(range(len(self.prompts)), key=lambda row: len(self.prompts[row]))
        shortest = len(self.prompts[order[0]])
        known, self.cache = self.shared.of(self.prompts)
        if known:
            self.cache = _selected(self.cache, torch.zeros(len(order), dtype=torch.long, device=device))
        ids = torch.tensor([self.prompts[row][known:shortest] for row in order], device=device)
        logits = read(self.model, self.cache, ids)
        done: list[tuple[Any, Tensor]] = []
        length, going = shortest, order
        while True:
            ended = sum(len(self.prompts[row]) == length for row in going)
            if ended:
                done.append((_selected(self.cache, torch.arange(ended, device=device)), logits[:ended]))
                going = going[ended:]
                if not going:
                    break
                self.cache = _selected(self.cache, torch.arange(ended, ended + len(going), device=device))
            logits = read(
                self.model, self.cache, torch.tensor([[self.prompts[row][length]] for row in going], device=device)
            )
            length += 1
        self.cache = _joined([cache for cache, _ in done])
        back = torch.tensor(order, device=device).argsort()
        self.select(back)
        return torch.cat([each for _, each in done])[back]

    def read(self, tokens: Tensor) -> Tensor:
        """One step of the states."""
        return read(self.model, self.cache, tokens.unsqueeze(1))

    def repeat(self, times: int) -> None:
        """All states."""
        rows = len(_states(self.cache)[0])
        self.select(torch.arange(rows, device=self.model.device).repeat_interleave(times))

    def select(self, places: Tensor) -> None:
        """All states."""
        self.cache = _selected(self.cache, places)

    def join(self, others: Sequence[Self]) -> None:
        """One after the other, whatever their prompts' lengths."""
        self.cache = _joined([each.cache for each in (self, *others)])
        self.prompts = [prompt for each in (self, *others) for prompt in each.prompts]


def _states(cache: Any) -> list[Tensor]:
    """All states of a cache, (rows, …) each."""
    return [
        state
        for layer in cache.layers
        for kind in (layer.conv_states, layer.recurrent_states)
        for state in kind.values()
    ]


def _with_states(cache: Any, states: Sequence[Tensor]) -> Any:
    """A cache like another one with other states."""
    made, left = copy.copy(cache), iter(states)
    made.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in made.layers:
        layer.conv_states = {key: next(left) for key in layer.conv_states}
        layer.recurrent_states = {key: next(left) for key in layer.recurrent_states}
    return made


def _selected(cache: Any, places: Tensor) -> Any:
    return _with_states(cache, [state[places] for state in _states(cache)])


def _joined(caches: Sequence[Any]) -> Any:
    return _with_states(caches[0], [torch.cat(each) for each in zip(*map(_states, caches), strict=True)])
