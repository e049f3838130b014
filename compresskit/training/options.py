"""What every training run has in common: the flags that `train`, `prune` and the adapters share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compresskit.data.features import WindowOptions
from compresskit.errors import UsageError
from compresskit.models.architecture import Architecture

# Turns a finished checkpoint folder into figures (em, f1, …, per cent) for its manifest.
Score = Callable[[Path], Mapping[str, float | None]]

# Fields that say where and how to run, not what: they may change between a run and its --resume.
_PLACE = ("output", "resume", "overwrite", "save_steps")


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Settings of a training run.

    `epochs` may be a fraction; `max_steps` above 0 overrides it (optimizer steps). `batch_size` counts windows for each
    process and micro-batch; `accumulate` micro-batches make a step. `lr` is the peak learning rate of the model's own
    weights, after a linear warm-up over the fraction `lr_warmup` of the steps, falling linearly to 0. `max_length` and
    `stride` are in tokens. `negatives` is the number of constructed unanswerable questions for each answerable one.
    `dtype` is that of the computation (weights learn in fp32). `save_steps` is the number of steps between states.
    `architecture` is what `model` is built from where that is no checkpoint, but built from the training data.
    """

    model: str
    output: Path
    train_data: str = "rajpurkar/squad_v2"
    max_train_samples: int | None = None
    negatives: float = 0.0
    epochs: float = 3.0
    max_steps: int = 0
    batch_size: int = 32
    accumulate: int = 1
    lr: float = 5e-5
    lr_warmup: float = 0.06
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_length: int = 384
    stride: int = 128
    seed: int = 42
    device: str = "auto"
    dtype: str = "auto"
    save_steps: int = 500
    resume: bool = False
    overwrite: bool = False
    architecture: Architecture | None = None

    def __post_init__(self) -> None:
        if not (
            self.epochs > 0 and self.batch_size > 0 and self.accumulate > 0 and self.lr > 0 and self.save_steps > 0
        ):
            raise UsageError("--epochs, --batch-size, --accumulate, --lr and --save-steps must be above 0")
        if not (math.isfinite(self.epochs) and math.isfinite(self.lr) and math.isfinite(self.negatives)):
            raise UsageError("--epochs, --lr and --negatives must be finite")
        if self.max_train_samples is not None and self.max_train_samples < 1:
            raise UsageError("--max-train-samples must be at least 1")
        if not 0 <= self.lr_warmup < 1:
            raise UsageError(f"--lr-warmup {self.lr_warmup:g} is a fraction of the steps, in [0, 1)")

    @property
    def windows(self) -> WindowOptions:
        """The part that cuts contexts."""
        return WindowOptions(self.max_length, self.stride)

    def describe(self) -> dict[str, Any]:
        """All settings that decide the result, as JSON values."""
        return {key: value for key, value in asdict(self).items() if key not in _PLACE}
