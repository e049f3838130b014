"""Passes over batches, with a stand-in for CUDA's graphs; these themselves are tried in tests/gpu."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compresskit.models.loaded import LoadedModel
from compresskit.models.registry import load
from compresskit.models.tasks import span_answers, span_passes
from compresskit.models.tasks.batching import graph_length
from compresskit.models.tasks.readings import read_windows
from compresskit.models.tasks.span_passes import Passes, how_of, packed
from tests.models import tiny
from tests.models.tasks.test_span_answers import OPTIONS, answers, asked


class Captured:
    """What `Graph` does, on a CPU: one batch and one result of its own, which each launch overwrites."""

    made: list[tuple[int, ...]] = []  # noqa: RUF012
    launched = 0

    def __init__(self, compute: Callable[[Tensor], Tensor], batch: Tensor, device: torch.device, pool: Any) -> None:
        self.compute, self.batch = compute, torch.full_like(batch, 1)
        self.result = torch.empty_like(compute(batch))
        self.made.append(tuple(batch.shape))

    def __call__(self, batch: Tensor) -> Tensor:
        Captured.launched += 1
        self.batch.copy_(batch)
        return self.result.copy_(self.compute(self.batch))


class Copying(Passes):
    """As on a GPU: a result is copied before the next pass, and a chunk is asked before another is read."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, graphs=True)
        self.ahead = 1

    def ask(self, batch: Tensor, how: span_passes.How) -> Tensor:
        return super().ask(batch, how).clone()


@pytest.fixture
def loaded(tmp_path: Any) -> LoadedModel:
    return load(str(tiny.save("bert", tmp_path / "bert")), device="cpu")


@pytest.fixture
def as_on_a_gpu(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Passes:
    passes = Copying(loaded.model)
    monkeypatch.setattr(Captured, "made", [])
    monkeypatch.setattr(Captured, "launched", 0)
    monkeypatch.setattr(span_passes, "Graph", Captured)
    monkeypatch.setattr(span_passes, "no_waiting", contextlib.nullcontext)
    monkeypatch.setattr(span_answers, "passes_of", lambda model, graphs: passes)
    return passes


@pytest.mark.parametrize("n_best", [1, 3])
def test_graphs_give_the_same_answers(loaded: LoadedModel, n_best: int, request: pytest.FixtureRequest) -> None:
    questions, options = asked(140), replace(OPTIONS, n_best=n_best)
    expected = answers(loaded, questions, options)
    request.getfixturevalue("as_on_a_gpu")
    found = [answers(loaded, questions, options) for _ in range(2)]
    assert Captured.launched > 2 * len(Captured.made) > 4
    assert found[0] == expected
    assert found[1] == expected


def test_a_shape_is_a_graph_from_its_third_pass_on(loaded: LoadedModel, as_on_a_gpu: Passes) -> None:
    shapes = []
    for _ in range(4):
        answers(loaded, asked(4)[:1])
        shapes.append((len(Captured.made), Captured.launched))
    assert shapes == [(0, 0), (0, 0), (1, 1), (1, 2)]
    answers(loaded, asked(4)[:1], n_best=2)  # another result
    assert Captured.launched == 2


def test_where_no_graph_can_be_made_passes_go_on(
    loaded: LoadedModel, as_on_a_gpu: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def broken(*_: Any) -> None:
        tried.append(1)
        raise RuntimeError("called a synchronizing CUDA operation")

    expected = answers(loaded, asked(100))
    monkeypatch.setattr(span_passes, "Graph", broken)
    as_on_a_gpu._graphs.clear()
    as_on_a_gpu._asked.clear()
    assert answers(loaded, asked(100)) == expected
    assert tried == [1]


def test_there_are_only_so_many_graphs(
    loaded: LoadedModel, as_on_a_gpu: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_passes, "MOST_GRAPHS", 2)
    answers(loaded, asked(120))
    assert len(Captured.made) == 2


@pytest.mark.parametrize("with_mask", [True, False])
def test_a_full_batch_needs_no_mask(loaded: LoadedModel, with_mask: bool) -> None:
    """A GPU is given none, a CPU is; the result is the same."""
    reading = read_windows(loaded.tokenizer, asked(12), OPTIONS.windows)
    rows = [row for row, ids in enumerate(reading.ids) if len(ids) == OPTIONS.max_length][:4]
    batch = packed(reading, rows, OPTIONS.max_length, 0, True, False)
    found = span_passes.asked(loaded.model, batch, how_of(True, with_mask, OPTIONS))
    assert torch.equal(found, Passes(loaded.model, graphs=False).ask(batch, how_of(True, True, OPTIONS)))


@given(st.integers(1, 5000))
def test_lengths_of_graphs(length: int) -> None:
    """Few, and little padding: eight for each doubling, none of less than eight tokens more."""
    found = graph_length(length)
    assert found % 8 == 0
    assert length <= found < max(length * 1.125 + 1, length + 8)
    assert graph_length(found) == found
    assert len({graph_length(each) for each in range(found + 1, 2 * found + 1)}) <= 9
