"""How many weights remain at each moment of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CubicSchedule:
    """The cubic schedule of Zhu & Gupta (2017, arXiv 1710.01878) with warm-up and cool-down.

    All weights remain during the first `warmup` of the run; then the fraction falls as a cubic to `1 - sparsity`, fast
    at first; it stays there for the last `cooldown`. Both are fractions of the run's steps.
    """

    sparsity: float
    warmup: float
    cooldown: float

    def progress(self, done: float) -> float:
        """Position on the way from dense (0) to the target (1), a cubic in `done`, the fraction of steps done."""
        span = 1.0 - self.warmup - self.cooldown
        if done <= self.warmup:
            return 0.0
        if span <= 0 or done >= 1.0 - self.cooldown:
            return 1.0
        return 1.0 - (1.0 - (done - self.warmup) / span) ** 3

    def remaining(self, done: float) -> float:
        """Fraction of the maskable weights that remain."""
        return 1.0 - self.sparsity * self.progress(done)
