"""What an evaluation is told, and what passes between it and the process that measures one checkpoint.

The parent writes a `Job` as JSON to the child's stdin; the child leaves two files in the folder that the job names: an
`Outcome` as JSON, and the answers in the official format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from compresskit.checkpoint.store import write_text
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.evaluate.row import Row

OUTCOME_FILE = "outcome.json"
PREDICTIONS_FILE = "predictions.json"

NullThreshold = float | Literal["auto"]

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
# The call was understood; what one of its checkpoints is called was not.
_ROW_CODES = {UsageError.exit_code: InputError.exit_code}


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


@dataclass(frozen=True, slots=True)
class Job:
    """One checkpoint to measure in a process of its own; ``folder`` takes what it leaves.

    ``name`` is what the progress bar says; ``index`` counts the jobs of one evaluation.
    """

    ref: str
    name: str
    data: str
    settings: EvalSettings
    folder: Path
    index: int = 0
    quiet: bool = False
    verbose: bool = False

    def to_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read back what `to_json` wrote."""
        raw = json.loads(text)
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw["settings"].items()
        }
        return cls(**{**raw, "folder": Path(raw["folder"]), "settings": EvalSettings(**settings)})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the child has to say: a row, or in its place an error and the exit code for it.

    ``question_em`` (0 or 1), ``question_f1`` (0-1) and ``paragraph`` (its number) have one entry a question, in the
    data set's order.
    """

    row: Row | None = None
    error: str | None = None
    error_code: int | None = None
    question_em: Sequence[float] = ()
    question_f1: Sequence[float] = ()
    paragraph: Sequence[int] = ()

    @classmethod
    def of(cls, error: CompresskitError) -> Outcome:
        """Return the outcome of a checkpoint that cannot be scored; a name that means nothing is bad input here."""
        return cls(error=str(error), error_code=_ROW_CODES.get(error.exit_code, error.exit_code))

    def to_json(self) -> str:
        """Return the outcome as JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps({**values, "row": None if self.row is None else self.row.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Read back what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**{**raw, "row": None if raw["row"] is None else Row.from_dict(raw["row"])})

    def write(self, folder: Path) -> None:
        """Leave the outcome in a job's folder, whole or not at all."""
        write_text(folder / OUTCOME_FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> Outcome:
        """Read the outcome that a job left in its folder; OSError or ValueError where it left none."""
        return cls.from_json((folder / OUTCOME_FILE).read_text(encoding="utf-8"))
