import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.methods.prune.schedule import CubicSchedule


@pytest.mark.parametrize(("warmup", "cooldown"), [(0.0, 0.0), (0.0, 0.2), (0.1, 0.3), (0.25, 0.0)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97])
def test_it_is_the_cubic_of_zhu_and_gupta(sparsity: float, warmup: float, cooldown: float) -> None:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Δt))³ with s_i = 0, held at both ends (arXiv 1710.01878, eq. 1)."""
    schedule = CubicSchedule(sparsity, warmup, cooldown)
    total = 1000
    first, last = round(total * warmup), round(total * (1 - cooldown))
    for step in range(total + 1):
        t = min(max(step, first), last)
        expected = sparsity + (0 - sparsity) * (1 - (t - first) / (last - first)) ** 3
        assert schedule.remaining(step / total) == pytest.approx(1 - expected, abs=1e-9)


@given(st.floats(0, 0.99), st.floats(0, 0.45), st.floats(0, 0.45))
def test_it_only_falls_and_reaches_the_target(sparsity: float, warmup: float, cooldown: float) -> None:
    schedule = CubicSchedule(sparsity, warmup, cooldown)
    remaining = np.array([schedule.remaining(done) for done in np.linspace(0, 1, 101)])
    assert (np.diff(remaining) <= 1e-12).all()
    assert remaining[0] == 1.0
    assert remaining[-1] == pytest.approx(1 - sparsity)
    assert schedule.remaining(1 - cooldown) == pytest.approx(1 - sparsity)
    assert schedule.remaining(warmup) == 1.0
