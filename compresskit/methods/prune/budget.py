"""How the remaining weights are shared among the matrices: in fractions while learning, in whole weights at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Rounds of giving the excess of full matrices to the others while learning: one round can fill several matrices, and
# the error that three leave is far below the sampling error of the thresholds. What is saved is shared to the end.
ROUNDS = 3


def same_role(names: Sequence[str]) -> Tensor:
    """Which matrices have the same role in different layers: a 0/1 fp32 matrix of shape (matrices, matrices)."""
    keys = np.array([re.sub(r"\.\d+\.", ".*.", name) for name in names])
    return torch.from_numpy((keys[:, None] == keys[None, :]).astype(np.float32))


def shared_fractions(
    importance: Tensor, sizes: Tensor, together: Tensor, remaining: float, rounds: int = ROUNDS
) -> Tensor:
    """Fraction of each matrix that remains under SMP-S (arXiv 2210.06210, section 3.2).

    Among the matrices of one role (`together`, from `same_role`) the budget is shared in proportion to `importance`,
    the mean sigmoid of each matrix's scores; no matrix gets more than all of its weights, and the excess goes to the
    others. `importance`, `sizes` and the result have shape (matrices,). Nothing waits for the device.
    """
    full = torch.zeros_like(importance, dtype=torch.bool)
    fraction = importance
    for _ in range(rounds):
        budget = together @ (sizes * remaining - torch.where(full, sizes, 0.0))
        open_size = together @ torch.where(full, 0.0, sizes * importance)
        fraction = torch.where(full, 1.0, importance * budget / open_size.clamp_min(1e-30))
        full = full | (fraction >= 1.0)
    return fraction.clamp(max=1.0)


def whole_counts(wanted: NDArray[np.float64], sizes: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Whole numbers near `wanted` that sum to `total`, none above its size (largest remainders first).

    All arrays have shape (matrices,). Raises ValueError where `total` is more than all sizes together.
    """
    if not 0 <= total <= int(sizes.sum()):
        raise ValueError(f"cannot keep {total} of {int(sizes.sum())} entries")
    counts = np.clip(np.floor(wanted), 0, sizes).astype(np.int64)
    while missing := total - int(counts.sum()):
        step = 1 if missing > 0 else -1
        movable = np.flatnonzero(counts < sizes if step > 0 else counts > 0)
        order = np.argsort(step * (counts - wanted)[movable], kind="stable")
        counts[movable[order[: abs(missing)]]] += step
    return counts
