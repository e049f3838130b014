import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.methods.prune import threshold
from compresskit.methods.prune.threshold import SAMPLE, common_threshold, sample, thresholds


def nth_largest(values: np.ndarray, count: int) -> float:
    """By a full sort: what is at least this are the `count` largest (without ties)."""
    if count <= 0:
        return math.inf
    if count >= values.size:
        return -math.inf
    return float(np.sort(values, axis=None)[::-1][count - 1])


@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=5),
    data=st.data(),
)
@settings(max_examples=80)
def test_on_a_cpu_it_is_the_order_statistic(seed: int, shapes: list[tuple[int, int]], data: st.DataObject) -> None:
    generator = np.random.default_rng(seed)
    matrices = [generator.standard_normal(shape).astype(np.float32) for shape in shapes]
    fractions = data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(shapes), max_size=len(shapes)))
    found = thresholds([torch.from_numpy(m) for m in matrices], torch.tensor(fractions))
    for matrix, fraction, value in zip(matrices, fractions, found, strict=True):
        count = round(fraction * matrix.size)
        assert value.item() == nth_largest(matrix, count)
        assert (matrix >= value.item()).sum() == min(max(count, 0), matrix.size)


@given(seed=st.integers(0, 2**32 - 1), fraction=st.floats(0, 1))
@settings(max_examples=40)
def test_the_common_one_is_that_of_all_entries_together(seed: int, fraction: float) -> None:
    generator = np.random.default_rng(seed)
    matrices = [generator.standard_normal(shape) * scale for shape, scale in (((5, 7), 1.0), ((8, 8), 3.0))]
    found = common_threshold([torch.from_numpy(m) for m in matrices], fraction)
    everything = np.concatenate([m.ravel() for m in matrices])
    assert found.item() == pytest.approx(nth_largest(everything, round(fraction * everything.size)))


# What a GPU does: the threshold of a sample. The device of each matrix is all that tells, so a stand-in claims one.


class OnGpu(torch.Tensor):
    """A CPU tensor that says that it is on a GPU."""

    @property
    def device(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(type="cuda")


def on_gpu(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.as_subclass(OnGpu)


@pytest.mark.parametrize("shape", [(768, 768), (384, 1536), (1000, 300), (257, 1021)])
@pytest.mark.parametrize("size", [1 << 10, 1 << 14, SAMPLE])
def test_a_sample_has_about_its_size_and_meets_every_column(shape: tuple[int, int], size: int) -> None:
    places = torch.arange(shape[0] * shape[1]).view(shape)
    taken = sample(places, size).numpy()
    assert len(taken) == len(set(taken.tolist()))
    assert 0.6 * min(size, places.numel()) < len(taken) <= size
    if size >= 16 * shape[1]:
        columns = np.bincount(taken % shape[1], minlength=shape[1])
        expected = len(taken) / shape[1]
        assert columns.min() > 0.8 * expected
        assert columns.max() < 1.2 * expected + 1


def test_a_matrix_smaller_than_the_sample_is_taken_whole() -> None:
    matrix = torch.randn(30, 40)
    assert torch.equal(sample(matrix, 1200), matrix.flatten())


@pytest.mark.parametrize("shape", [(768, 768), (1024, 768), (3072, 768), (384, 1536)])
def test_rows_of_like_scores_do_not_bias_the_sample(shape: tuple[int, int]) -> None:
    rows = torch.arange(float(shape[0])).unsqueeze(1).expand(shape).contiguous()
    taken = sample(rows, SAMPLE)
    assert taken.mean().item() == pytest.approx(rows.mean().item(), rel=0.01)
    assert taken.max().item() == shape[0] - 1
    assert len(taken) > 0.75 * SAMPLE


@pytest.mark.parametrize("remaining", [0.5, 0.1, 0.03])
def test_sampled_thresholds_keep_the_fraction_within_four_standard_errors(remaining: float) -> None:
    shapes = [(768, 768), (3072, 768), (768, 3072), (768, 768), (64, 64)]
    matrices = [torch.randn(shape) * (1 + i) + i for i, shape in enumerate(shapes)]
    fractions = torch.tensor([remaining, remaining / 2, min(2 * remaining, 0.9), 1.0, remaining])
    found = thresholds([on_gpu(m) for m in matrices], fractions)
    for matrix, fraction, value in zip(matrices, fractions.tolist(), found, strict=True):
        kept = (matrix >= value.as_subclass(torch.Tensor)).float().mean().item()
        size = len(sample(matrix, SAMPLE))
        if size == matrix.numel():
            assert kept == pytest.approx(fraction, abs=0.5 / size + 1e-7)
        else:
            error = math.sqrt(fraction * (1 - fraction) / size)
            assert abs(kept - fraction) <= 4 * error
            assert kept != fraction or fraction == 1.0  # it is a sample


@pytest.mark.parametrize("remaining", [0.5, 0.1, 0.03])
def test_the_sampled_common_threshold(remaining: float) -> None:
    matrices = [torch.randn(768, 768), torch.randn(3072, 768) * 2, torch.randn(768, 3072) - 1]
    value = common_threshold([on_gpu(m) for m in matrices], remaining).as_subclass(torch.Tensor)
    kept = sum(int((m >= value).sum()) for m in matrices) / sum(m.numel() for m in matrices)
    error = math.sqrt(remaining * (1 - remaining) / (8 * SAMPLE))
    assert abs(kept - remaining) <= 4 * error


def test_selection_of_the_ends() -> None:
    ranked = torch.randn(4, 100).sort(dim=1, descending=True).values
    found = threshold._select(ranked, torch.tensor([0.0, 1.0, 0.25, 0.004]))
    assert found.tolist() == [math.inf, -math.inf, ranked[2, 24].item(), math.inf]
