"""Ratios of the same round: their median, its interval by ranks, and when a limit cannot be told."""

import operator

import pytest
from scipy.stats import binom

from compresskit.evaluate.ratio import Ratio, _left_out, held, ratio_of, spread, upon_baseline


def test_a_drift_that_both_share_leaves_the_ratio() -> None:
    pairs = [[2.0 * slower, 1.0 * slower] for slower in (1.0, 1.5, 2.0, 3.0, 5.0, 9.0)]
    assert ratio_of(pairs) == Ratio(2.0, 0.0, 6)
    assert ratio_of([[1.0, 2.0]]) == Ratio(0.5, None, 1)
    assert ratio_of([]) is None
    assert ratio_of([[1.0, 0.0]]) is None


def test_the_interval_of_the_median_is_that_by_ranks() -> None:
    for count in range(1, 60):
        out = _left_out(count)
        assert out == 0 or binom.cdf(out, count, 0.5) <= 0.025
        assert binom.cdf(out + 1, count, 0.5) > 0.025


def test_spread() -> None:
    assert spread([9.0, 10.0, 11.0, 10.0, 10.0, 14.0]) == pytest.approx(0.25)  # of six, from the least to the greatest
    assert spread([1.0, *[10.0] * 8, 99.0]) == 0.0  # of ten, one at each end is left out
    assert spread([1.0]) is None
    assert spread([0.0, 0.0]) is None


@pytest.mark.parametrize(
    ("middle", "around", "holds"),
    [
        (1.09, 0.15, True),  # within 15 % the median decides
        (1.11, 0.15, False),
        (1.11, None, False),
        (1.2, 0.2, None),
        (1.05, 0.2, None),
        (1.4, 0.2, False),
        (0.9, 0.2, True),
        (3.0, 0.5, False),  # a wide spread hides no great difference
    ],
)
def test_beyond_15_per_cent_a_difference_has_to_be_beyond_the_spread(
    middle: float, around: float | None, holds: bool | None
) -> None:
    assert held(middle, around, 1.1, operator.le) is holds
    assert held(middle, around, 1.1, operator.gt) is (None if holds is None else not holds)


def test_upon_the_baseline() -> None:
    pairs = [[12.0, 10.0], [26.0, 20.0], [33.0, 30.0]]
    values, middle = upon_baseline(pairs, offset=False)
    assert middle == 20.0
    assert values == pytest.approx([24.0, 26.0, 22.0])
    assert upon_baseline(pairs, offset=True) == ([22.0, 26.0, 23.0], 20.0)
    assert upon_baseline([], offset=True) == ([], None)
