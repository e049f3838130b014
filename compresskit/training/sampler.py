"""The order of the training data: random, fixed by seed and epoch, with windows of like length together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

# Windows are sorted by length within runs of this many batches: long enough to leave almost no padding, short enough
# to leave the order random.
RUN = 64


class LengthGroupedSampler(Sampler[int]):
    """Indices in an order that puts windows of like length into one batch.

    The order depends on `seed` and `epoch` alone (set `epoch` before each pass), so an interrupted epoch can be taken
    up in the middle. `batch_size` counts windows over all processes and accumulated micro-batches.
    """

    def __init__(self, lengths: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.lengths))
        run = self.batch_size * RUN
        pieces = [order[begin : begin + run] for begin in range(0, len(order), run)]
        ordered = np.concatenate([piece[np.argsort(-self.lengths[piece], kind="stable")] for piece in pieces])
        whole = len(ordered) // self.batch_size * self.batch_size
        batches = ordered[:whole].reshape(-1, self.batch_size)
        shuffled = batches[generator.permutation(len(batches))].ravel()
        yield from np.concatenate((shuffled, ordered[whole:])).tolist()
