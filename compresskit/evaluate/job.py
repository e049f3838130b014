"""What an evaluation is told, and what passes between it and the process that measures one checkpoint.

The parent writes a `Job` as JSON to the child's stdin; the child writes an `Outcome` as JSON to the file that
the job names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from compresskit.errors import UsageError
from compresskit.evaluate.row import Row


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How checkpoints are asked and measured.

    ``batch_size`` in questions; ``max_length``, ``stride`` and ``max_answer_length`` in tokens;
    ``null_threshold`` in logits: a question is left unanswered where the null score exceeds the best span's
    by more. ``latency_questions`` are timed one by one (with 0 the latency is not measured), after
    ``warmup_questions`` that are not; a batch warms up the timing of batches too, unless that is 0.
    ``predictions_dir`` receives one ``NAME.json`` a checkpoint, in the official format (id -> text).

    Raises UsageError where a value cannot be.
    """

    batch_size: int = 32
    max_length: int = 384
    stride: int = 128
    max_answer_length: int = 30
    null_threshold: float = 0.0
    device: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    latency_questions: int = 50
    warmup_questions: int = 5
    predictions_dir: Path | None = None

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "max_length": 1, "stride": 0, "max_answer_length": 1}
        least |= {"latency_questions": 0, "warmup_questions": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                shown = name.replace("_", " ")
                raise UsageError(f"{shown} is {getattr(self, name)}; give a whole number of at least {bound}")
        if self.stride >= self.max_length:
            raise UsageError(
                f"stride {self.stride} does not fit in max length {self.max_length}; give a smaller stride"
            )


@dataclass(frozen=True, slots=True)
class Job:
    """One checkpoint to measure in a process of its own; ``result`` is the file for the outcome."""

    ref: str
    name: str
    data: str
    settings: EvalSettings
    result: Path
    predictions: Path | None = None
    quiet: bool = False
    verbose: bool = False

    def to_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read back what `to_json` wrote."""
        raw = json.loads(text)
        for holder, key in ((raw, "result"), (raw, "predictions"), (raw["settings"], "predictions_dir")):
            holder[key] = None if holder[key] is None else Path(holder[key])
        return cls(**{**raw, "settings": EvalSettings(**raw["settings"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the child has to say: a row and the device it was measured on, or an error.

    ``error_class`` names the class of `compresskit.errors` for an error meant for the user; it is None where
    the checkpoint crashed and only its own row is lost. ``question_em`` (0 or 1) and ``paragraph`` (its number)
    have one entry a question, in the data set's order.
    """

    row: Row | None = None
    device: Mapping[str, str | int] | None = None
    error: str | None = None
    error_class: str | None = None
    question_em: Sequence[float] | None = None
    paragraph: Sequence[int] | None = None

    def to_json(self) -> str:
        """Return the outcome as JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps({**values, "row": None if self.row is None else self.row.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Read back what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**{**raw, "row": None if raw["row"] is None else Row.from_dict(raw["row"])})
