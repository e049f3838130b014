"""Is a difference between two checkpoints more than chance? Statistics over the questions of a data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REPLICATES = 10_000
# Counts held at once, 8 bytes each: with the 1,204 paragraphs of the official dev set 1,661 replicates.
_COUNTS = 2_000_000


def bootstrap_intervals(
    values: NDArray[np.float64], paragraph: NDArray[np.int64], seed: int = 0, replicates: int = REPLICATES
) -> list[tuple[float, float] | None]:
    """The 95 % percentile interval of the mean of each column of `values`, in per cent.

    None with a single paragraph, from which nothing can be drawn.

    `values` has the shape (questions, columns): scores 0-1, or differences between two checkpoints' scores;
    `paragraph` is the number of each question's paragraph, shape (questions,). Whole paragraphs are drawn with
    replacement, because the questions of one are not independent (cluster bootstrap: Efron & Tibshirani 1993,
    chapter 8); all columns share the draws.
    """
    _, index = np.unique(paragraph, return_inverse=True)
    counts = np.bincount(index)
    sums = np.stack([np.bincount(index, weights=column) for column in values.T], axis=1)
    size, rng = len(counts), np.random.default_rng(seed)
    if size < 2:
        return [None] * values.shape[1]
    means, step = [], max(1, _COUNTS // size)
    for begin in range(0, replicates, step):
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=min(step, replicates - begin))
        means.append(drawn @ sums / (drawn @ counts)[:, None])
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5), axis=0)
    return [(100 * float(a), 100 * float(b)) for a, b in zip(low, high, strict=True)]


def mcnemar(won: int, lost: int) -> float:
    """McNemar's exact two-sided p-value for `won` and `lost` questions (scipy's binomial test at 1/2)."""
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
