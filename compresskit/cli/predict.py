"""`compresskit predict`: answer questions."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compresskit.cli.flags import with_flags
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.asking import Answer, Shown, as_line, asked_as
from compresskit.models.answering import AnswerOptions
from compresskit.options import check, like, option, refuse
from compresskit.text import counted, finite_or_none, to_json, whole
from compresskit.training.arguments import TrainingOptions

if TYPE_CHECKING:
    from compresskit.evaluate.predict import Questions
    from compresskit.models.answering import Prediction
    from compresskit.models.loaded import LoadedModel


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked, and what: one question about one passage, or all of a file; and where the answers go."""

    checkpoint: str = option(MISSING, "A fine-tuned checkpoint.", metavar="CKPT", argument=True)
    question: str | None = option(None, "The question.", short="-q", metavar="TEXT")
    context: str | None = option(None, "The passage to read.", short="-c", metavar="TEXT")
    input: Path | None = option(
        None,
        "Questions in any form of DATA: SQuAD JSON, rows as JSON, JSON lines, CSV, TSV or Parquet; - reads them "
        "from a pipe.",
        metavar="FILE",
    )
    output: Path | None = option(
        None,
        "Write the answers there, question id to text, as the official script and eval take them; print nothing.",
        short="-o",
        metavar="FILE",
    )
    device: Literal["auto", "cpu", "cuda"] = like(TrainingOptions, "device")

    def __post_init__(self) -> None:
        check(self)
        alone = self.question is not None or self.context is not None
        if (self.input is not None) == alone or (alone and None in (self.question, self.context)):
            raise UsageError("give a question and a passage (-q … -c …), or a file of them (--input FILE)")
        if self.input is None:
            refuse(self, ("output",), "without --input")

    def check_output(self) -> None:
        """UsageError where the answers would be written over what is read, or cannot be."""
        if self.output is not None and self.input is not None:
            from compresskit.checkpoint.outputs import check_file
            from compresskit.evaluate.reading import checkpoint_places

            check_file(self.output, [self.input, *checkpoint_places(self.checkpoint)], flag="--output")


@with_flags()
def predict(asked: Asked, options: AnswerOptions, shown: Shown) -> None:
    """Answer a question, or all of a file: text, place and probability, score and null score, a JSON object a line."""
    from compresskit import console
    from compresskit.evaluate.predict import answer_one, answers
    from compresskit.evaluate.questions import read_questions
    from compresskit.models.registry import load, require_head

    asked.check_output()
    examples = read_questions(asked.input) if asked.input is not None else None
    if asked.output is not None and examples is not None:
        _check_ids(examples, asked.output)
    shots = shown.drawn()
    loaded = require_head(load(asked.checkpoint, device=asked.device))
    how = asked_as(loaded, options, shown, shots)
    if examples is None:
        found = answer_one(loaded, whole(str(asked.question)), whole(str(asked.context)), how)
        console.out(_line(found, options.n_best))
    elif asked.output is not None:
        _write(loaded, examples, how, asked.output)
    else:
        for prediction in answers(loaded, examples, how):
            console.out(_line(prediction, options.n_best, with_id=True))


def _check_ids(examples: Questions, output: Path) -> None:
    """InputError where two questions have one id: a file of answers has one for each."""
    known: set[str] = set()
    for example in examples:
        if example.id in known:
            raise InputError(
                f"two questions have the id {example.id!r}, and {output} holds one answer to each id; "
                "give every question its own, or leave --output out"
            )
        known.add(example.id)


def _write(loaded: LoadedModel, examples: Questions, how: AnswerOptions, output: Path) -> None:
    """Write the answers to all questions as one file, under a progress bar."""
    from compresskit import console
    from compresskit.checkpoint.store import write_text
    from compresskit.evaluate.predict import predictions

    found = {prediction.id: prediction.text for prediction in predictions(loaded, examples, how)}
    write_text(output, to_json(found, indent=1) + "\n")
    console.info(f"{output} holds {counted(len(found), 'answer')}")


def _line(prediction: Prediction, n_best: int, *, with_id: bool = False) -> str:
    """A prediction as JSON: what is told of its answer, then of the `n_best` where there are to be several."""
    return to_json(finite_or_none(as_line(Answer.of(prediction, n_best), with_id=with_id, with_n_best=n_best > 1)))
