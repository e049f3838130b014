"""What a pruning run is: the method, its target, its schedule and its learning rates. Nothing here needs torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from compresskit.errors import UsageError
from compresskit.models.defaults import TrainingDefaults
from compresskit.options import check, option, refuse

Method = Literal["smp", "smp-l", "movement", "soft-movement", "magnitude"]
Block = tuple[int, int]

PRUNING = "Pruning"
SCORE_LR = 2e-2
# The weight of the penalty at a sparsity, and where it is so much and no more. Measured at 0.5, 0.9 and 0.97 on MiniLM
# (docs/results); between 0.5 and 0.9 it is interpolated.
PENALTIES = {0.5: 50.0, 0.9: 400.0}
DEFAULTS = TrainingDefaults(lr=3e-5, epochs=10.0)


def parse_block(text: str) -> Block:
    """`32x32` as (32, 32); ValueError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError(f"{text!r} is not a shape")
    return int(match[1]), int(match[2])


def default_penalty(sparsity: float) -> float:
    """The weight of the penalty for a sparsity: geometric between the `PENALTIES`, constant beyond them."""
    (low, least), (high, most) = PENALTIES.items()
    done = min(max((sparsity - low) / (high - low), 0.0), 1.0)
    return float(least * (most / least) ** done)


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """Settings of a pruning run; the defaults are those of SMP (arXiv 2210.06210), but for the penalty's.

    `sparsity` is the fraction of the maskable weights that is removed. `score_lr` is the learning rate of the scores.
    `penalty` weighs the mean sigmoid of the scores (the L1 regulariser); it grows with the schedule, and by default
    with the sparsity (the paper has 400 throughout). `warmup` and `cooldown` are fractions of the steps. `block` is the
    shape (rows, columns) that one score covers. `mask_embeddings` puts a mask over the words' embeddings too.
    """

    method: Method = option(
        "smp",
        "smp: weights frozen, scores learn, budget shared by importance; smp-l: the same fraction of each matrix; "
        "movement, soft-movement: weights and scores learn; magnitude: the smallest weights go.",
        panel=PRUNING,
    )
    sparsity: float = option(
        0.5,
        "Fraction of the maskable weights to remove, in [0, 1).",
        metavar="S",
        least=0,
        below=1,
        hint="it is the fraction of weights removed, such as 0.5",
        panel=PRUNING,
    )
    block: Block = option(
        (1, 1),
        "Rows and columns that one score covers.",
        metavar="RxC",
        parse=parse_block,
        hint="give ROWSxCOLUMNS, such as 32x32",
        shown="1x1",
        panel=PRUNING,
    )
    score_lr: float | None = option(
        None, "Peak learning rate of the scores.", metavar="RATE", above=0, shown=f"{SCORE_LR:g}", panel=PRUNING
    )
    penalty: float | None = option(
        None,
        "Weight of the mean sigmoid of the scores in the loss.",
        metavar="L",
        least=0,
        shown="50 for a sparsity up to 0.5, growing to 400 at 0.9 and above",
        panel=PRUNING,
    )
    warmup: float = option(
        0.0, "Fraction of the steps before the first weight goes.", metavar="F", least=0, below=1, panel=PRUNING
    )
    cooldown: float = option(
        0.2, "Fraction of the steps at the final sparsity.", metavar="F", least=0, below=1, panel=PRUNING
    )
    mask_embeddings: bool = option(False, "Mask the words' embeddings too.", panel=PRUNING)

    def __post_init__(self) -> None:
        check(self)
        if min(self.block) < 1:
            raise UsageError(f"--block {self.block[0]}x{self.block[1]} is not a shape; give ROWSxCOLUMNS")
        if self.warmup + self.cooldown >= 1:
            raise UsageError(
                f"--warmup {self.warmup:g} and --cooldown {self.cooldown:g} leave no steps to prune in; sum below 1"
            )
        if not self.learns_scores:
            refuse(self, ("score_lr",), f"with --method {self.method}, which has no scores")
        if not self.regularized:
            refuse(self, ("penalty",), f"with --method {self.method}, which has no penalty")

    @property
    def scores_at(self) -> float:
        """The peak learning rate of the scores."""
        return SCORE_LR if self.score_lr is None else self.score_lr

    @property
    def pull(self) -> float:
        """The weight of the penalty at the final sparsity."""
        return default_penalty(self.sparsity) if self.penalty is None else self.penalty

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

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values, as they take effect."""
        values = {**asdict(self), "score_lr": self.scores_at, "penalty": self.pull}
        embeddings = values.pop("mask_embeddings")
        return {**values, "embeddings": embeddings}

    @classmethod
    def described(cls, told: Mapping[str, Any]) -> Self:
        """What `describe` tells so. What is the default was perhaps not given, and not every method has it."""
        values = dict(told)
        if "embeddings" in values:
            values["mask_embeddings"] = values.pop("embeddings")
        if "block" in values:
            values["block"] = tuple(values["block"])
        given = {name: values.pop(name, None) for name in ("score_lr", "penalty")}
        plain = cls(**values)
        known = plain.describe()
        return replace(plain, **{name: value for name, value in given.items() if value not in (None, known[name])})
