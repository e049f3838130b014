"""Is a difference between two checkpoints more than chance? Paired statistics over the same questions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REPLICATES = 10_000
# Replicates drawn at once: 1,000 times the paragraphs of the official dev set are 10 MB.
_CHUNK = 1_000


def bootstrap_interval(
    difference: NDArray[np.float64], paragraph: NDArray[np.int64], seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean ``difference``, in per cent.

    ``difference`` is one checkpoint's score less the other's, 0-1, and ``paragraph`` the number of its paragraph, both
    of shape (questions,). Whole paragraphs are drawn with replacement, because the questions of one are not independent
    (cluster bootstrap: Efron & Tibshirani 1993, chapter 8).
    """
    _, index = np.unique(paragraph, return_inverse=True)
    sums, counts = np.bincount(index, weights=difference), np.bincount(index)
    size, rng = len(counts), np.random.default_rng(seed)
    means = []
    for begin in range(0, replicates, _CHUNK):
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=min(_CHUNK, replicates - begin))
        means.append(drawn @ sums / (drawn @ counts))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return 100 * float(low), 100 * float(high)


def mcnemar(won: int, lost: int) -> float:
    """Return McNemar's exact two-sided p-value for ``won`` and ``lost`` questions (scipy's binomial test at 1/2)."""
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
