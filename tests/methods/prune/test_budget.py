import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.methods.prune.budget import same_role, shared_fractions, whole_counts

NAMES = [
    "bert.encoder.layer.0.attention.self.query",
    "bert.encoder.layer.0.output.dense",
    "bert.encoder.layer.1.attention.self.query",
    "bert.encoder.layer.1.output.dense",
    "bert.encoder.layer.11.attention.self.query",
]


def water_filling(importance: list[float], sizes: list[int], groups: list[int], remaining: float) -> list[float]:
    """The budget of each group in proportion to size times importance, the excess of full matrices passed on."""
    fractions = [0.0] * len(sizes)
    for group in set(groups):
        active = [i for i, g in enumerate(groups) if g == group]
        budget = remaining * sum(sizes[i] for i in active)
        while active:
            unit = budget / sum(importance[i] * sizes[i] for i in active)
            over = [i for i in active if importance[i] * unit >= 1]
            if not over:
                for i in active:
                    fractions[i] = importance[i] * unit
                break
            for i in over:
                fractions[i] = 1.0
                budget -= sizes[i]
                active.remove(i)
    return fractions


def test_roles_are_the_same_place_in_another_layer() -> None:
    expected = [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]
    assert same_role(NAMES).tolist() == expected


def test_smp_s_formula() -> None:
    """Section 3.2 of arXiv 2210.06210: with L matrices of one role and of equal size, v_i = L · r · m_i / Σ m."""
    importance = torch.tensor([0.2, 0.3, 0.5, 0.6])
    found = shared_fractions(importance, torch.full((4,), 768.0), torch.ones(4, 4), 0.1)
    torch.testing.assert_close(found, 4 * 0.1 * importance / importance.sum())


@given(
    matrices=st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(4, 4000)), min_size=1, max_size=12),
    remaining=st.floats(0.01, 0.999),
    roles=st.integers(1, 3),
)
@settings(max_examples=200)
def test_it_is_water_filling(matrices: list[tuple[float, int]], remaining: float, roles: int) -> None:
    importance, sizes = [m for m, _ in matrices], [n for _, n in matrices]
    groups = [i % roles for i in range(len(matrices))]
    together = torch.tensor([[float(a == b) for b in groups] for a in groups], dtype=torch.float64)
    found = shared_fractions(
        torch.tensor(importance, dtype=torch.float64),
        torch.tensor(sizes, dtype=torch.float64),
        together,
        remaining,
        rounds=len(sizes),
    ).numpy()
    np.testing.assert_allclose(found, water_filling(importance, sizes, groups, remaining), rtol=1e-6, atol=1e-9)
    kept = sum(f * n for f, n in zip(found, sizes, strict=True))
    assert kept == pytest.approx(remaining * sum(sizes))
    assert (found <= 1).all()


def test_the_rounds_of_learning_are_enough_for_a_usual_model() -> None:
    """72 matrices as BERT-base's, with importances as they spread after training."""
    generator = np.random.default_rng(3)
    importance = generator.uniform(0.05, 0.9, 72)
    sizes, groups = [1000] * 72, [i % 6 for i in range(72)]
    together = torch.tensor([[float(a == b) for b in groups] for a in groups])
    for remaining in (0.5, 0.1, 0.03):
        found = shared_fractions(torch.from_numpy(importance).float(), torch.tensor(sizes).float(), together, remaining)
        np.testing.assert_allclose(found, water_filling(importance.tolist(), sizes, groups, remaining), atol=5e-3)


def test_nothing_is_removed_at_the_start() -> None:
    found = shared_fractions(torch.tensor([0.5, 0.1]), torch.tensor([10.0, 10.0]), torch.ones(2, 2), 1.0)
    torch.testing.assert_close(found, torch.ones(2))


@given(data=st.data(), sizes=st.lists(st.integers(1, 500), min_size=1, max_size=10))
@settings(max_examples=200)
def test_whole_counts_sum_to_the_total(data: st.DataObject, sizes: list[int]) -> None:
    total = data.draw(st.integers(0, sum(sizes)))
    fractions = data.draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)))
    array = np.array(sizes)
    counts = whole_counts(np.array(fractions) * array, array, total)
    assert counts.sum() == total
    assert (counts >= 0).all()
    assert (counts <= array).all()


@given(data=st.data(), sizes=st.lists(st.integers(1, 500), min_size=1, max_size=10))
def test_whole_counts_are_next_to_what_is_wanted(data: st.DataObject, sizes: list[int]) -> None:
    fractions = data.draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)))
    array = np.array(sizes)
    wanted = np.array(fractions) * array
    counts = whole_counts(wanted, array, round(float(wanted.sum())))
    assert (np.abs(counts - wanted) <= 1).all()


def test_the_largest_remainders_come_first() -> None:
    counts = whole_counts(np.array([1.2, 2.7, 3.6, 0.5]), np.array([9, 9, 9, 9]), 8)
    assert counts.tolist() == [1, 3, 4, 0]


@pytest.mark.parametrize("total", [-1, 11])
def test_a_total_that_does_not_fit(total: int) -> None:
    with pytest.raises(ValueError, match="cannot keep"):
        whole_counts(np.array([5.0, 5.0]), np.array([5, 5]), total)
