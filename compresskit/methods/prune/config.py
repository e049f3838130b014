"""What a pruning run is: the method, its target, its schedule and its learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from compresskit.errors import UsageError

Method = Literal["smp", "smp-l", "movement", "soft-movement", "magnitude"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """Settings of a pruning run; the defaults are those of SMP (arXiv 2210.06210).

    `sparsity` is the fraction of the maskable weights that is removed. `score_lr` is the learning rate of the scores.
    `penalty` weighs the mean sigmoid of the scores (the L1 regulariser); it grows with the schedule. `warmup` and
    `cooldown` are fractions of the steps. `block` is the shape (rows, columns) that one score covers.
    `embeddings` puts a mask over the words' embeddings too.
    """

    method: Method = "smp"
    sparsity: float = 0.5
    block: tuple[int, int] = (1, 1)
    score_lr: float = 2e-2
    penalty: float = 400.0
    warmup: float = 0.0
    cooldown: float = 0.2
    embeddings: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method!r}; use {', '.join(METHODS)}")
        if not 0 <= self.sparsity < 1:
            raise UsageError(
                f"--sparsity {self.sparsity:g} is not in [0, 1): it is the fraction of weights removed, such as 0.5"
            )
        if not (self.warmup >= 0 and self.cooldown >= 0 and self.warmup + self.cooldown < 1):
            raise UsageError(
                f"--warmup {self.warmup:g} and --cooldown {self.cooldown:g} leave no steps to prune in; sum below 1"
            )
        if min(self.block) < 1:
            raise UsageError(
                f"--block {self.block[0]}x{self.block[1]} is not a shape; give ROWSxCOLUMNS, such as 32x32"
            )
        if not (0 < self.score_lr < math.inf and 0 <= self.penalty < math.inf):
            raise UsageError("--score-lr must be above 0 and --penalty at least 0, both finite")

    @property
    def learns_scores(self) -> bool:
        """Whether the method learns a score for every weight (magnitude pruning has none)."""
        return self.method != "magnitude"

    @property
    def learns_weights(self) -> bool:
        """Whether the weights under the mask change too (with SMP they do not)."""
        return not self.method.startswith("smp")

    @property
    def regularized(self) -> bool:
        """Whether the scores are pushed down by the penalty (not with plain movement pruning, nor without scores)."""
        return self.method in ("smp", "smp-l", "soft-movement")
