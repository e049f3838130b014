"""Prediction bounds: against scipy's intervals, and against how often the next value really lies beyond them."""

import math

import numpy as np
import pytest
from scipy import stats

from compresskit.evaluate.derive.prediction import Uncertainty, failing, of_interval, of_values, room
from compresskit.evaluate.stats import bootstrap_intervals


def seen_alone(values: np.ndarray) -> Uncertainty:
    """What is uncertain of a mean itself, as a confidence interval has it."""
    return Uncertainty(0.0, float(values.var(ddof=1)) / len(values), len(values) - 1)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_one_more_value_is_scipys_interval_of_the_mean_made_wider(count: int) -> None:
    values = np.random.default_rng(count).normal(70, 2, count)
    half = values.mean() - stats.ttest_1samp(values, 0).confidence_interval(0.9).low
    assert room([of_values(values.tolist())], 0.95) == pytest.approx(half * math.sqrt(count + 1))


def test_two_groups_are_those_of_welch_in_scipy() -> None:
    rng = np.random.default_rng(4)
    one, other = rng.normal(70, 1, 3), rng.normal(68, 4, 7)
    found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.9)
    half = (found.high - found.low) / 2
    assert room([seen_alone(one), seen_alone(other)], 0.95) == pytest.approx(half)


@pytest.mark.parametrize(("count", "sure"), [(3, 0.95), (5, 0.9)])
def test_the_next_run_lies_within_the_room_as_often_as_is_said(count: int, sure: float) -> None:
    draws = np.random.default_rng(0).normal(0, 1, (600, count + 1))
    held = [each[-1] >= each[:-1].mean() - room([of_values(each[:-1].tolist())], sure) for each in draws]
    assert np.mean(held) == pytest.approx(sure, abs=3 * math.sqrt(sure * (1 - sure) / len(draws)))


def test_another_sample_of_paragraphs_lies_within_the_room_as_often_as_is_said() -> None:
    """With the intervals that an evaluation has, of questions that hang together in paragraphs."""
    rng, paragraphs, each = np.random.default_rng(1), 60, 4
    paragraph = np.repeat(np.arange(paragraphs), each)

    def sample() -> np.ndarray:
        alike = rng.normal(0, 0.3, paragraphs)
        return np.repeat(alike, each) + rng.normal(0, 0.3, paragraphs * each)

    held = []
    for _ in range(400):
        first = sample()
        (interval,) = bootstrap_intervals(first[:, None], paragraph, replicates=300)
        assert interval is not None
        held.append(100 * sample().mean() >= 100 * first.mean() - room([of_interval(interval)], 0.95))
    assert np.mean(held) == pytest.approx(0.95, abs=0.035)


def test_what_never_varied_leaves_no_room() -> None:
    assert room([of_values([70.0, 70.0, 70.0])], 0.95) == 0.0
    assert room([of_interval((-1.0, -1.0))], 0.95) == 0.0


def test_a_true_loss_as_great_as_is_told_fails_four_times_of_five() -> None:
    part = of_values([70.0, 71.0, 72.0])
    true = failing(68.0, [part])
    assert stats.norm(true, 1.0).cdf(68.0) == pytest.approx(0.8)
