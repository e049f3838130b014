"""What passes between an evaluation and the process that measures one checkpoint.

The parent writes a `Measurement` as JSON to the child's stdin; the child leaves two files in the folder that is named
there: an `Outcome` as JSON, and the answers in the official format.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from compresskit.checkpoint.store import write_text
from compresskit.data.examples import ExampleFiles
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.evaluate.row import Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.prompt import Prompt
from compresskit.text import finite_or_none, one_line, to_json

OUTCOME_FILE = "outcome.json"
PREDICTIONS_FILE = "predictions.json"

# The call was understood; what one of its checkpoints is called was not.
_ROW_CODES = {UsageError.exit_code: InputError.exit_code}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One checkpoint to measure in a process of its own; `folder` takes what it leaves.

    `questions` are those to ask, `tuning` those to tune the null threshold on, `shown` those that examples are drawn
    from, all as the parent has read them.
    `name` is what the progress bar says; `index` counts the measurements of one evaluation.
    """

    ref: str
    name: str
    questions: ExampleFiles
    settings: EvalSettings
    folder: Path
    index: int = 0
    tuning: ExampleFiles | None = None
    shown: ExampleFiles | None = None
    quiet: bool = False
    verbose: bool = False

    def to_json(self) -> str:
        """The measurement as JSON."""
        return json.dumps({**asdict(self), "settings": self.settings.to_dict()}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """Read back what `to_json` wrote."""
        raw = json.loads(text)
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw["settings"].items()
        }
        if settings["prompt_template"] is not None:
            settings["prompt_template"] = Prompt.from_dict(settings["prompt_template"], "the settings")
        values = {
            **raw,
            "questions": ExampleFiles.from_dict(raw["questions"]),
            "settings": EvalSettings(**settings),
            "folder": Path(raw["folder"]),
            **{key: None if raw[key] is None else ExampleFiles.from_dict(raw[key]) for key in ("tuning", "shown")},
        }
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the child has to say: a row, or in its place an error and the exit code for it.

    `question_em` (0 or 1), `question_f1` (0-1) and `paragraph` (its number) have one entry a question, in the data
    set's order, as has `windows` (how many the model read; none where there is no model). `too_long` counts the
    questions to which no gold answer is short enough to be given.
    `weights_digest` and `answers_digest` are hashes of what it computes with, and of its answers with their scores.
    """

    row: Row | None = None
    error: str | None = None
    error_code: int | None = None
    question_em: Sequence[float] = ()
    question_f1: Sequence[float] = ()
    paragraph: Sequence[int] = ()
    windows: Sequence[int] = ()
    too_long: int = 0
    weights_digest: str | None = None
    answers_digest: str | None = None

    @classmethod
    def of(cls, error: CompresskitError) -> Outcome:
        """The outcome of a checkpoint that cannot be scored; a name that means nothing is bad input here."""
        return cls(error=one_line(str(error)), error_code=_ROW_CODES.get(error.exit_code, error.exit_code))

    def to_json(self) -> str:
        """The outcome as JSON; a figure that is not finite counts as not measured."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return to_json(finite_or_none({**values, "row": None if self.row is None else self.row.to_dict()}))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Read back what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**{**raw, "row": None if raw["row"] is None else Row.from_dict(raw["row"])})

    def write(self, folder: Path) -> None:
        """Leave the outcome in a folder, whole or not at all."""
        write_text(folder / OUTCOME_FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> Outcome:
        """Read the outcome that `write` left in a folder; OSError or ValueError where there is none."""
        return cls.from_json((folder / OUTCOME_FILE).read_text(encoding="utf-8"))
