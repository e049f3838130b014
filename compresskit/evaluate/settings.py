"""How checkpoints are asked and measured: the settings of an evaluation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from compresskit.errors import UsageError

NullThreshold = float | Literal["auto"]

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How checkpoints are asked and measured.

    ``batch_size`` in windows of full length; ``max_length``, ``stride`` and ``max_answer_length`` in tokens;
    ``null_threshold`` in logits: a question is left unanswered where the null score exceeds the best span's
    by more; "auto" takes the one that suits ``tune_data`` best, for each checkpoint its own. ``limit`` asks whole
    paragraphs with so many questions in all, drawn with ``seed``. ``latency_questions`` are timed one by one (with 0
    the latency is not measured), after ``warmup_questions`` that are not; a batch warms up the timing of batches too,
    unless that is 0. All timing is done ``repeat`` times. ``metrics`` are figures beyond EM and F1 (see
    `compresskit.evaluate.metrics`), ``harness`` tasks of lm-evaluation-harness.

    Raises UsageError where a value cannot be.
    """

    batch_size: int = 32
    max_length: int = 384
    stride: int = 128
    max_answer_length: int = 30
    null_threshold: NullThreshold = 0.0
    tune_data: str | None = None
    limit: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    latency_questions: int = 50
    warmup_questions: int = 5
    repeat: int = 1
    metrics: tuple[str, ...] = ()
    harness: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "max_length": 1, "stride": 0, "max_answer_length": 1, "repeat": 1, "limit": 1}
        least |= {"latency_questions": 0, "warmup_questions": 0, "seed": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                shown = name.replace("_", " ")
                raise UsageError(f"{shown} is {value}; give a whole number of at least {bound}")
        if self.stride >= self.max_length:
            raise UsageError(
                f"stride {self.stride} does not fit in max length {self.max_length}; give a smaller stride"
            )
        for name, known in (("device", DEVICES), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}; use {', '.join(known)}")
        if self.null_threshold != "auto" and not math.isfinite(self.null_threshold):
            raise UsageError(f"null threshold is {self.null_threshold}; give a number, or auto with --tune-data")
        if (self.null_threshold == "auto") != (self.tune_data is not None):
            raise UsageError("--null-threshold auto and --tune-data belong together; give both, or neither")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
