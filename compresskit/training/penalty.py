"""The penalties of a training, told apart from the loss of its task."""

from __future__ import annotations

from torch import Tensor


class PenaltyMeter:
    """Sums the penalty of each step, where there is one, between two lines of the log; no step waits for a GPU."""

    def __init__(self) -> None:
        self.steps = 0
        self.logged = 0.0  # the sum of all lines
        self._sum: Tensor | float = 0.0
        self._done = -1.0

    def add(self, done: float, penalty: Tensor) -> None:
        """Count the penalty, a scalar, at the fraction `done` of the steps: once, however many batches make a step."""
        if done != self._done:
            self._done = done
            self._sum = penalty.detach().float() + self._sum
            self.steps += 1

    @property
    def total(self) -> float:
        """The sum since the last line."""
        return float(self._sum)

    def take(self) -> float | None:
        """The mean over the steps since the last line, which are forgotten; None where there was no penalty."""
        total, steps = self.total, self.steps
        self.go_on(self.logged + total, 0.0, 0)
        return total / steps if steps else None

    def go_on(self, logged: float, total: float, steps: int) -> None:
        """Count on from what a state tells: the sum of all lines, and that of so many steps since the last one."""
        self.logged, self._sum, self.steps = logged, total, steps
