"""The score that a given fraction of a matrix reaches: found without sorting the matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Entries of a matrix that its threshold is read from on a GPU, at most. The standard error of the fraction kept is
# sqrt(f·(1-f)/entries), at most 0.2 to 0.3 % of the matrix; what is saved is counted exactly.
SAMPLE = 1 << 16


def thresholds(importances: Sequence[Tensor], fractions: Tensor) -> list[Tensor]:
    """For each matrix the threshold that `fractions` (shape (matrices,)) of its entries reach, as scalars.

    On a CPU the exact order statistic, by selection; on a GPU that of a fixed sample of up to SAMPLE entries of each
    matrix, sorted together, so that nothing waits for the device and 0.5 % of BERT-base's scores are sorted instead
    of all at every step. A fraction of 1 gives -inf, and of 0 gives inf.
    """
    if importances[0].device.type == "cpu":
        return [_exact(matrix, fraction) for matrix, fraction in zip(importances, fractions.tolist(), strict=True)]
    found: list[Tensor] = [fractions] * len(importances)
    scalars = fractions.unbind()
    samples = [sample(matrix, SAMPLE) for matrix in importances]
    by_size: dict[int, list[int]] = {}
    for index, taken in enumerate(samples):
        by_size.setdefault(len(taken), []).append(index)
    for members in by_size.values():
        rows = torch.stack([samples[index] for index in members])
        ranked = rows.sort(dim=1, descending=True).values
        # Picked one by one: an index made from a list would wait for the device.
        wanted = torch.stack([scalars[index] for index in members])
        for index, value in zip(members, _select(ranked, wanted).unbind(), strict=True):
            found[index] = value
    return found


def common_threshold(importances: Sequence[Tensor], fraction: float) -> Tensor:
    """One threshold that `fraction` of the entries of all matrices together reach, as a scalar.

    Exact on a CPU; on a GPU read from a sample of every matrix in proportion to its size.
    """
    total = sum(matrix.numel() for matrix in importances)
    step = 1 if importances[0].device.type == "cpu" else max(total // (8 * SAMPLE), 1)
    pool = torch.cat([sample(matrix, max(matrix.numel() // step, 1)) for matrix in importances])
    return _exact(pool, fraction)


def sample(matrix: Tensor, size: int) -> Tensor:
    """At most `size` entries of a matrix (rows, columns) at equal steps, from its first row to its last.

    The step shares no factor with the number of columns, so that every column is met.
    """
    step = -(-matrix.numel() // size)
    while math.gcd(step, matrix.shape[-1]) > 1:
        step += 1
    return matrix.flatten()[::step]


def _select(ranked: Tensor, fractions: Tensor) -> Tensor:
    """The entry of each descending row (rows, size) that the given fraction of the row reaches."""
    size = ranked.shape[1]
    count = (fractions * size).round().long()
    value = ranked.gather(1, (count - 1).clamp(0, size - 1).unsqueeze(1)).squeeze(1)
    value = torch.where(count <= 0, float("inf"), value)
    return torch.where(count >= size, float("-inf"), value)


def _exact(matrix: Tensor, fraction: float) -> Tensor:
    size = matrix.numel()
    count = round(fraction * size)
    if count <= 0 or count >= size:
        return torch.tensor(float("inf") if count <= 0 else float("-inf"))
    return matrix.flatten().kthvalue(size - count + 1).values
