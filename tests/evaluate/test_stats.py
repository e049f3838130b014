"""Paired statistics against plain loops and scipy."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from compresskit.evaluate.stats import bootstrap_intervals, mcnemar


def naive_interval(difference: list[float], paragraph: list[int], replicates: int) -> tuple[float, float]:
    """Draw whole paragraphs with replacement, one replicate after the other."""
    rng = random.Random(0)
    groups: dict[int, list[float]] = {}
    for value, number in zip(difference, paragraph, strict=True):
        groups.setdefault(number, []).append(value)
    members = list(groups.values())
    means = []
    for _ in range(replicates):
        drawn = [value for group in rng.choices(members, k=len(members)) for value in group]
        means.append(100 * sum(drawn) / len(drawn))
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def test_the_interval_is_that_of_a_plain_loop():
    rng = np.random.default_rng(1)
    paragraph = rng.integers(0, 40, 300)
    # Questions of one paragraph go the same way, so that drawing single questions would give a narrower interval.
    difference = rng.integers(-1, 2, 40)[paragraph].astype(float)
    (found,) = bootstrap_intervals(difference[:, None], paragraph)
    assert found is not None
    np.testing.assert_allclose(found, naive_interval(difference.tolist(), paragraph.tolist(), 4000), atol=1.5)
    (alone,) = bootstrap_intervals(difference[:, None], np.arange(300))
    assert alone is not None
    assert found[1] - found[0] > 2 * (alone[1] - alone[0])
    assert found[0] <= 100 * difference.mean() <= found[1]


def test_the_same_seed_gives_the_same_interval_whatever_stands_beside_it():
    values = np.random.default_rng(2).random((6, 3))
    paragraph = np.array([0, 0, 1, 1, 2, 3])
    together = bootstrap_intervals(values, paragraph, seed=3)
    assert together == [bootstrap_intervals(values[:, [column]], paragraph, seed=3)[0] for column in range(3)]
    few = [bootstrap_intervals(values, np.arange(6), seed=seed, replicates=50) for seed in (3, 4)]
    assert few[0] != few[1]
    assert bootstrap_intervals(np.zeros((6, 2)), paragraph) == [(0.0, 0.0), (0.0, 0.0)]


def test_one_paragraph_has_no_interval():
    (found,) = bootstrap_intervals(np.array([[1.0], [0.0]]), np.array([7, 7]))
    assert found is None


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_two_sided_sum_of_binomial_tails(won, lost):
    """At 1/2 the binomial is symmetric: twice the smaller tail, at most 1."""
    expected = 1.0 if won == lost else min(1.0, 2 * binom.cdf(min(won, lost), won + lost, 0.5))
    assert mcnemar(won, lost) == pytest.approx(expected)
