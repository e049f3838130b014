"""The scale of axes, decided at one place."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.evaluate.report.scale import Axis, cost_axis, quality_axis

COSTS = st.lists(st.floats(1, 1e13), min_size=1, max_size=12)


@given(COSTS)
def test_a_cost_is_logarithmic_and_holds_its_values_and_ticks(values):
    found = cost_axis(values, str)
    assert found.is_log
    assert all(0 < found.place(value) < 1 for value in values)
    ticks = [value for value, _ in found.ticks]
    assert 2 <= len(ticks) <= 6
    assert all(-1e-9 <= found.place(tick) <= 1 + 1e-9 for tick in ticks)
    assert ticks == sorted(set(ticks))
    for before, tick in itertools.pairwise(ticks):
        leading = tick / 10 ** math.floor(math.log10(tick) + 1e-9)
        assert round(leading, 6) in (1, 2, 3, 5) or any(
            math.isclose(tick - before, step * 10.0**power) for step in (1, 2, 5) for power in range(-2, 14)
        )


@pytest.mark.parametrize("values", [(90e6, 91e6), (8.3, 8.3), (1.0, 400.0)])
def test_half_of_a_cost_is_as_far_away_everywhere(values):
    found = cost_axis(values, str)
    middle = math.sqrt(values[0] * values[1])
    assert found.place(middle) == pytest.approx(0.5)
    assert found.place(middle) - found.place(middle / 2) == pytest.approx(found.place(2 * middle) - found.place(middle))


def test_near_costs_are_not_blown_up():
    found = cost_axis([100.0, 100.5], str)
    assert found.high / found.low > 2


def test_a_cost_of_nothing_has_a_place():
    found = cost_axis([0.0, 3.0], str)
    assert not found.is_log
    assert 0 <= found.place(0.0) < found.place(3.0) < 1


@given(COSTS, st.floats(0, 1), st.floats(0, 1))
def test_an_axis_keeps_order(values, a, b):
    found = cost_axis(values, str)
    low, high = sorted(found.low + (found.high - found.low) * part for part in (a, b))
    assert found.place(low) <= found.place(high)
    assert found.place(found.low) == pytest.approx(0)
    assert found.place(found.high) == pytest.approx(1)


@pytest.mark.parametrize("values", [[0.0], [0.0, 100.0], [100.0], [100.0, 99.99], [0.0, 1e-3]])
def test_a_quality_stays_between_nothing_and_all(values):
    found = quality_axis(values)
    assert not found.is_log
    assert 0 <= found.low < found.high <= 100
    assert all(0 <= found.place(value) <= 1 for value in values)


def test_without_values_an_axis_is_blank():
    assert cost_axis([], str) == quality_axis([]) == Axis(0.0, 1.0, False, ())
