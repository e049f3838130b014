"""Is a difference between two checkpoints more than chance? Statistics over the questions of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REPLICATES = 10_000
# Counts held at once, 8 bytes each: with the 1,204 paragraphs of the official dev set 1,661 replicates.
_COUNTS = 2_000_000


def bootstrap_intervals(
    values: NDArray[np.float64], paragraph: NDArray[np.int64], seed: int = 0, replicates: int = REPLICATES
) -> list[tuple[float, float] | None]:
    """The 95 % percentile interval of the mean of each column of `values`, in per cent.

    None with a single paragraph, from which nothing can be drawn. The draws are those of `bootstrap_means`.
    """
    means = bootstrap_means(values, paragraph, seed, replicates)
    return [None] * values.shape[1] if means is None else [*intervals_of(means)]


def bootstrap_means(
    values: NDArray[np.float64], paragraph: NDArray[np.int64], seed: int = 0, replicates: int = REPLICATES
) -> NDArray[np.float64] | None:
    """The mean of each column of `values` in each replicate, shape (replicates, columns); None with one paragraph.

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
        return None
    means, step = [], max(1, _COUNTS // size)
    for begin in range(0, replicates, step):
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=min(step, replicates - begin))
        means.append(drawn @ sums / (drawn @ counts)[:, None])
    return np.concatenate(means)


def intervals_of(means: NDArray[np.float64]) -> list[tuple[float, float]]:
    """The 95 % percentile interval of each column of replicates, in per cent."""
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return [(100 * float(a), 100 * float(b)) for a, b in zip(low, high, strict=True)]


def margin_of_runs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the 95 % interval of the mean over runs, by Student's t; `values` have the shape (runs, …), the margin (…).

    One run tells nothing of the spread: its margin is 0.
    """
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return np.zeros(values.shape[1:])
    margin = t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / math.sqrt(count)
    return np.asarray(margin, dtype=np.float64)


def widened(interval: tuple[float, float], mean: float, margins: Sequence[float]) -> tuple[float, float]:
    """The interval of a mean over questions and runs: `interval` is that over questions, `margins` those over runs.

    What questions and what runs leave open is independent, so each side is the root of the sum of their squares (the
    method of variance estimates recovery: Zou & Donner 2008, Statistics in Medicine 27, 1693-1702).
    """
    low, high = (math.hypot(mean - end, *margins) for end in interval)
    return mean - low, mean + high


def mcnemar(won: int, lost: int) -> float:
    """McNemar's exact two-sided p-value for `won` and `lost` questions (scipy's binomial test at 1/2)."""
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def mcnemar_each(won: NDArray[np.int64], lost: NDArray[np.int64]) -> NDArray[np.float64]:
    """`mcnemar` of each pair of counts, shapes (n,): at 1/2 twice the smaller tail is the two-sided p-value."""
    from scipy.stats import binom

    return np.asarray(np.minimum(1.0, 2 * binom.cdf(np.minimum(won, lost), won + lost, 0.5)), dtype=np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for there being several (Holm 1979), in their order, each at most 1.

    The chance that any of those below 0.05 is there by chance alone is then below 0.05, whatever hangs together among
    them.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    found: list[float] = corrected.tolist()
    return found


class Clusters:
    """Questions that fall into slices, and within each into paragraphs, whose questions are not independent.

    `slices` is the number of each question's slice (0 ≤ number < `count`), `paragraph` that of its paragraph, shapes
    (questions,).
    """

    def __init__(self, slices: NDArray[np.int64], count: int, paragraph: NDArray[np.int64]) -> None:
        from scipy.stats import t

        _, own = np.unique(paragraph, return_inverse=True)
        width = int(own.max(initial=0)) + 1
        pairs, self._cluster = np.unique(slices * width + own, return_inverse=True)
        self._slice_of_cluster = pairs // width
        self._questions_of_cluster = np.bincount(self._cluster)
        self._slices, self.count = slices, count
        self.questions: NDArray[np.int64] = np.bincount(slices, minlength=count)
        self._clusters = np.bincount(self._slice_of_cluster, minlength=count)
        # Of one paragraph nothing is known, whatever stands here.
        several = np.maximum(self._clusters, 2)
        self._width = t.ppf(0.975, several - 1) * np.sqrt(several / (several - 1)) / self.questions

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of `values`, one a question, in each slice: shape (count,)."""
        return np.bincount(self._slices, weights=values, minlength=self.count).astype(np.float64)

    def intervals(
        self, values: NDArray[np.float64], groups: Sequence[Sequence[NDArray[np.float64]]] = ()
    ) -> list[tuple[float, float] | None]:
        """The 95 % interval of the mean of `values` (one a question) in each slice, per cent.

        None for a slice of one paragraph alone. The mean is a ratio of two sums over paragraphs; its error is that of
        the ratio's linear part (Cochran 1977, chapter 6), and Student's t has one degree of freedom less than there
        are paragraphs. So it takes one pass, where the bootstrap of many slices would take seconds.

        Where `values` are means over runs, `groups` have the values of the runs, those that are independent of each
        other in groups of their own: the interval is as wide as they differ too (see `widened`).
        """
        means = self.sums(values) / self.questions
        totals = np.bincount(self._cluster, weights=values)
        rest = totals - means[self._slice_of_cluster] * self._questions_of_cluster
        squares = np.bincount(self._slice_of_cluster, weights=rest**2, minlength=self.count)
        margin = np.sqrt(squares) * self._width
        for group in groups:
            margin = np.hypot(margin, margin_of_runs(np.stack([self.sums(run) / self.questions for run in group])))
        ends = zip((100 * (means - margin)).tolist(), (100 * (means + margin)).tolist(), strict=True)
        return [span if several else None for span, several in zip(ends, self._clusters > 1, strict=True)]
