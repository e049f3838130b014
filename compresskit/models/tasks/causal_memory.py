"""The memories of models that go on with a text: keys and values of attention, or states that do not grow."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from compresskit.errors import InputError
from compresskit.models.tasks.memory import Memory, log_probabilities
from compresskit.models.tasks.steps import states_of, steps_of, with_states
from compresskit.models.tasks.target_features import padded
from compresskit.text import with_article

# Fewer tokens than these are not worth a pass of their own.
LEAST = 32
# How models call their memory, in arguments and in outputs (transformers 5.24 calls all of them `cache`).
NAMES = ("cache_params", "past_key_values", "cache")


def remembered(model: Any, prompts: Sequence[Sequence[int]], shared: Shared | None = None) -> Memory:
    """The memory of some prompts, given by their token ids; what they `shared` is read once.

    Raises InputError for a model that mixes layers of both sorts.
    """
    return _sort(model.config)(model, prompts, shared or Shared(model))


def _sort(config: Any) -> type[CausalMemory]:
    layers = {type(layer) for layer in DynamicCache(config=config).layers}
    if layers == {LinearAttentionLayer}:
        return StateMemory
    if layers <= {DynamicLayer, DynamicSlidingWindowLayer}:
        return AttentionMemory
    raise InputError(
        f"{with_article(config.model_type)} mixes attention with layers of states, or keeps more than keys and values, "
        "which is not supported; take a model of plain attention or of states alone"
    )


def _empty(config: Any) -> Any:
    """A cache without tokens.

    Attention keeps all of them, also where it sees but a window: rows of unlike length are joined column by column. The
    mask, which transformers makes of the configuration, leaves out what is too far away.
    """
    return DynamicCache() if _sort(config) is AttentionMemory else DynamicCache(config=config)


class Shared:
    """What batches have in common: what all prompts begin with, such as examples, read once; and how a model reads."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.steps = steps_of(model, read)
        # A GPU waits for each pass, a CPU for each token.
        keeps = any(getattr(module, "keeps_states", False) for module in model.modules())
        self.pads = keeps and model.device.type == "cuda"
        self._ids: list[int] = []
        self._cache: Any = None

    def of(self, prompts: Sequence[Sequence[int]]) -> tuple[int, Any]:
        """How many tokens of some prompts have been read, and the cache of one row after them; 0 and an empty one else.

        At least one token of each prompt is left to read.
        """
        # What the first and the last in order begin with, all between them do.
        first, last = min(map(list, prompts)), max(map(list, prompts))
        shortest = min(map(len, prompts))
        common = next((at for at in range(shortest) if first[at] != last[at]), shortest)
        common = min(common, shortest - 1)
        known = len(self._ids)
        if not (known and known <= common and list(first[:known]) == self._ids):
            if common < LEAST or len(prompts) == 1:
                return 0, _empty(self.model.config)
            known, self._ids = common, list(first[:common])
            self._cache = _empty(self.model.config)
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


def read_padded(model: Any, cache: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """As `read`, of rows that are padded on the right, under a mask (rows, length): logits after each row's last token.

    For models whose states stay as they were at padding.
    """
    name = next(name for name in NAMES if takes(model, name))
    ends = mask.sum(dim=1, keepdim=True) - 1 == torch.arange(mask.shape[1], device=mask.device)
    with output_of(model, ends):
        logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=True, **{name: cache}).logits[0]
    return logits


@contextlib.contextmanager
def output_of(model: Any, told: Tensor) -> Iterator[None]:
    """Within it a model writes the vocabulary for the tokens `told` alone (rows, length), as one row of them.

    Prompts take most of a batch, and their logits would take most of a step's memory. A model whose output is no module
    that it calls writes it for all tokens.
    """
    output = model.get_output_embeddings()
    if output is None:
        yield
        return

    def told_alone(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given[0][told].unsqueeze(0), *given[1:]

    handle = output.register_forward_pre_hook(told_alone)
    try:
        yield
    finally:
        handle.remove()


class CausalMemory(Memory):
    """What both sorts have: prompts by their token ids, and transformers' cache."""

    cache: Any

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], shared: Shared) -> None:
        self.model, self.prompts, self.shared = model, [list(prompt) for prompt in prompts], shared
        self.rows, self.longest = len(self.prompts), max(map(len, self.prompts))

    @property
    def size(self) -> int:
        """Each row counts as the longest prompt."""
        return self.rows * self.longest

    def together(self, others: Sequence[Self]) -> Self:
        """The prompts one after the other."""
        return type(self)(self.model, [prompt for each in (self, *others) for prompt in each.prompts], self.shared)

    def first(
        self, start: Sequence[int], null: Sequence[int], closing: Sequence[int] = (), unknown: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The prompts are read, and the target after them, by a memory that is thrown away."""
        logits = self._read_prompts()
        found, other, likely = logits, copy.copy(self), logits.new_zeros(len(logits), dtype=torch.float32)
        other.cache = copy.deepcopy(self.cache)
        for token in null[:-1]:
            likely = likely + log_probabilities(found, unknown)[:, token]
            found = other.read(torch.full((len(likely),), token, device=likely.device))
        ends = log_probabilities(found, unknown)[:, [null[-1], *closing]]
        return likely + ends.logsumexp(dim=1), logits

    @abstractmethod
    def _read_prompts(self) -> Tensor:
        """Read them; the logits after the last token of each, (rows, vocabulary)."""

    def repeat(self, times: int) -> None:
        """The rows are counted."""
        self.rows *= times

    def select(self, places: Tensor) -> None:
        """The rows are counted."""
        self.rows = len(places)

    def join(self, others: Sequence[Self]) -> None:
        """The rows are counted."""
        self.rows += sum(each.rows for each in others)
        self.longest = max(each.longest for each in (self, *others))


class AttentionMemory(CausalMemory):
    """Keys and values, padded on the left; `mask` (rows, length) are the tokens that count."""

    mask: Tensor

    def _read_prompts(self) -> Tensor:
        """The first columns come from what is shared, each row shifted by its padding; the model reads the others.

        So all padding stands on the left, as models need that count columns for how far a token is away.
        """
        known, cache = self.shared.of(self.prompts)
        self.cache, device = copy.copy(cache), self.model.device
        lengths = torch.tensor([len(prompt) for prompt in self.prompts], device=device)
        padding, columns = self.longest - lengths.unsqueeze(1), torch.arange(self.longest, device=device)
        self.mask = (columns >= padding).long()
        self.cache.layers = [_shifted(layer, (columns[:known] - padding).clamp(min=0)) for layer in cache.layers]
        rows = [[0] * (self.longest - len(prompt)) + prompt for prompt in self.prompts]
        return self._attend(torch.tensor([row[known:] for row in rows], device=device))

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
        super().repeat(times)
        self.cache.batch_repeat_interleave(times)
        self.mask = self.mask.repeat_interleave(times, dim=0)

    def select(self, places: Tensor) -> None:
        """Cache and mask."""
        super().select(places)
        self.cache.batch_select_indices(places)
        self.mask = self.mask[places]

    def join(self, others: Sequence[Self]) -> None:
        """Padded on the left to the longest."""
        super().join(others)
        every = (self, *others)
        length = max(each.mask.shape[1] for each in every)
        more = [length - each.mask.shape[1] for each in every]
        self.mask = torch.cat([pad(each.mask, (by, 0)) for each, by in zip(every, more, strict=True)])
        for layers in zip(*(each.cache.layers for each in every), strict=True):
            pairs = list(zip(layers, more, strict=True))
            layers[0].keys = torch.cat([pad(layer.keys, (0, 0, by, 0)) for layer, by in pairs])
            layers[0].values = torch.cat([pad(layer.values, (0, 0, by, 0)) for layer, by in pairs])


def _shifted(layer: DynamicLayer, places: Tensor) -> DynamicLayer:
    """A layer of many rows with the keys and values of one row at some places, (rows, columns)."""
    made = copy.copy(layer)
    if places.numel():
        assert layer.keys is not None
        assert layer.values is not None
        made.keys, made.values = (each[0][:, places].transpose(0, 1) for each in (layer.keys, layer.values))
    return made


class StateMemory(CausalMemory):
    """States of a size that does not depend on what was read, as Mamba's (Gu & Dao 2023, arXiv 2312.00752)."""

    def _read_prompts(self) -> Tensor:
        """In one pass where padding leaves the states as they were."""
        known, self.cache = self.shared.of(self.prompts)
        if known:
            self.cache = _selected(self.cache, torch.zeros(self.rows, dtype=torch.long, device=self.model.device))
        if not self.shared.pads:
            return self._read_unpadded(known)
        ids, mask = padded([prompt[known:] for prompt in self.prompts], 0, 1)
        return read_padded(self.model, self.cache, ids.to(self.model.device), mask.to(self.model.device))

    def _read_unpadded(self, known: int) -> Tensor:
        """All as far as the shortest goes, then those that have more as far as the next one; the states of each end.

        Prompts of like length are asked together, so that few passes are short.
        """
        device = self.model.device
        order = sorted(range(len(self.prompts)), key=lambda row: len(self.prompts[row]))
        shortest = len(self.prompts[order[0]])
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
            end = len(self.prompts[going[0]])
            ids = torch.tensor([self.prompts[row][length:end] for row in going], device=device)
            logits, length = read(self.model, self.cache, ids), end
        self.cache = _joined([cache for cache, _ in done])
        back = torch.tensor(order, device=device).argsort()
        self.select(back)
        return torch.cat([each for _, each in done])[back]

    def read(self, tokens: Tensor) -> Tensor:
        """One step of the states."""
        return self.shared.steps.step(self.cache, tokens)

    def repeat(self, times: int) -> None:
        """All states."""
        self.select(torch.arange(self.rows, device=self.model.device).repeat_interleave(times))

    def select(self, places: Tensor) -> None:
        """All states."""
        super().select(places)
        self.cache = _selected(self.cache, places)

    def join(self, others: Sequence[Self]) -> None:
        """One after the other, whatever their prompts' lengths."""
        super().join(others)
        self.cache = _joined([each.cache for each in (self, *others)])


def _selected(cache: Any, places: Tensor) -> Any:
    return with_states(cache, [state[places] for state in states_of(cache)])


def _joined(caches: Sequence[Any]) -> Any:
    return with_states(caches[0], [torch.cat(each) for each in zip(*map(states_of, caches), strict=True)])
