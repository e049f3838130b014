import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.training.sampler import RUN, LengthGroupedSampler


def order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[int]:
    sampler = LengthGroupedSampler(lengths, batch_size, seed)
    sampler.epoch = epoch
    return list(sampler)


@given(
    count=st.integers(1, 3000),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 20),
)
@settings(max_examples=50)
def test_each_epoch_is_a_permutation_fixed_by_seed_and_epoch(
    count: int, batch_size: int, seed: int, epoch: int
) -> None:
    lengths = np.random.default_rng(1).integers(10, 384, count)
    found = order(lengths, batch_size, seed, epoch)
    assert sorted(found) == list(range(count))
    np.random.random()  # the state of the global generators plays no part
    assert order(lengths, batch_size, seed, epoch) == found


def test_other_seeds_and_epochs_give_other_orders() -> None:
    lengths = np.random.default_rng(2).integers(10, 384, 500)
    orders = {tuple(order(lengths, 8, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


@pytest.mark.parametrize("count", [64 * 32 * 3, 5000])
def test_batches_hold_windows_of_like_length(count: int) -> None:
    lengths = np.random.default_rng(3).integers(50, 384, count)
    found = lengths[order(lengths, 32, 0, 0)]
    batches = [found[i : i + 32] for i in range(0, count // 32 * 32, 32)]
    padding = 1 - found[: count // 32 * 32].sum() / sum(32 * batch.max() for batch in batches)
    chance = np.random.default_rng(4).permutation(lengths)[: count // 32 * 32].reshape(-1, 32)
    by_chance = 1 - chance.sum() / (32 * chance.max(axis=1)).sum()
    assert padding < 0.03 < 0.3 < by_chance


def test_the_batches_come_in_random_order() -> None:
    """Long and short windows mixed over the epoch: sorted batches would train on lengths one after another."""
    lengths = np.random.default_rng(5).integers(50, 384, 32 * RUN)
    means = lengths[order(lengths, 32, 0, 0)].reshape(-1, 32).mean(axis=1)
    steps = np.arange(len(means))
    assert abs(np.corrcoef(steps, means)[0, 1]) < 0.35


def test_members_of_a_batch_change_between_epochs() -> None:
    lengths = np.random.default_rng(6).integers(50, 384, 32 * 100)
    epochs = [{frozenset(b) for b in np.reshape(order(lengths, 32, 0, epoch), (-1, 32)).tolist()} for epoch in (0, 1)]
    assert not epochs[0] & epochs[1]


def test_the_length_is_that_of_the_data() -> None:
    assert len(LengthGroupedSampler(np.ones(17, np.int64), 4, 0)) == 17
