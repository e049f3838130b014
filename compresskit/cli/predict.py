"""`compresskit predict`: answer questions."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compresskit.checkpoint.reading import MOST, opened, reading
from compresskit.cli.flags import with_flags
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.answering import GENERATING, AnswerOptions
from compresskit.options import check, like, option, refuse
from compresskit.text import finite_or_none, from_json, to_json, whole, whole_json
from compresskit.training.arguments import TrainingOptions

if TYPE_CHECKING:
    from compresskit.data.examples import Example
    from compresskit.models.answering import Prediction


@dataclass(frozen=True, slots=True)
class Questions:
    """Who is asked, and what: one question about one passage, or every line of a file."""

    checkpoint: str = option(MISSING, "A fine-tuned checkpoint.", metavar="CKPT", argument=True)
    question: str | None = option(None, "The question.", short="-q", metavar="TEXT")
    context: str | None = option(None, "The passage to read.", short="-c", metavar="TEXT")
    input: Path | None = option(None, 'JSON lines with "question", "context" and, if you like, "id".', metavar="FILE")
    device: Literal["auto", "cpu", "cuda"] = like(TrainingOptions, "device")

    def __post_init__(self) -> None:
        if (self.input is None) == (self.question is None or self.context is None):
            raise UsageError("give a question and a passage (-q … -c …), or a file of them (--input FILE)")


@dataclass(frozen=True, slots=True)
class Shown:
    """The examples that stand before each question."""

    shots: int | None = like(EvalSettings, "shots")
    shots_data: str | None = like(EvalSettings, "shots_data", shown=None)
    seed: int | None = like(EvalSettings, "seed", default=None, help="Seed of --shots.", shown="0")

    def __post_init__(self) -> None:
        check(self)
        if not self.shots:
            refuse(self, ("shots_data", "seed"), "without --shots")
        elif self.shots_data is None:
            raise UsageError(f"--shots {self.shots} needs --shots-data: a file of questions, a Hub data set, or demo")

    def drawn(self) -> tuple[Example, ...]:
        """The examples; none where none are asked for. Raises the errors of reading data."""
        if self.shots_data is None:
            return ()
        from compresskit.data.load import load
        from compresskit.data.shots import drawn

        return tuple(drawn(load(self.shots_data, "train"), self.shots or 0, self.seed or 0))


@with_flags()
def predict(asked: Questions, options: AnswerOptions, shown: Shown) -> None:
    """Answer a question, or every line of a file: text, score and null score, one JSON object a line."""
    from compresskit import console
    from compresskit.evaluate.predict import answer_one, answers
    from compresskit.models.registry import load, require_head

    examples = list(read_questions(asked.input)) if asked.input is not None else None
    options = replace(options, shots=shown.drawn())
    loaded = require_head(load(asked.checkpoint, device=asked.device))
    if loaded.task.prompt is None:
        for given, names in ((options, GENERATING), (shown, ("shots",))):
            refuse(given, names, f"with {loaded.ref}, which does not write its answers")
    if examples is None:
        console.out(
            _line(answer_one(loaded, whole(str(asked.question)), whole(str(asked.context)), options), options.n_best)
        )
        return
    for prediction in answers(loaded, examples, options):
        console.out(_line(prediction, options.n_best, with_id=True))


def _line(prediction: Prediction, n_best: int, *, with_id: bool = False) -> str:
    found: dict[str, object] = {"id": prediction.id} if with_id else {}
    found |= {"text": prediction.text, "score": prediction.score, "null_score": prediction.null_score}
    if n_best > 1:
        found["n_best"] = [{"text": c.text, "score": c.score} for c in prediction.n_best]
    return to_json(finite_or_none(found))


def read_questions(path: Path) -> Iterator[Example]:
    """Questions of a JSON-lines file; InputError naming the line where one is broken."""
    from compresskit.data.examples import Example

    for number, line in _lines(path):
        try:
            record = from_json(whole_json(line.encode()))
            question, context = record["question"], record["context"]
            if not (isinstance(question, str) and isinstance(context, str)):
                raise TypeError("question and context are texts")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f'{path}, line {number}: not an object with "question" and "context" ({error})') from error
        yield Example(str(record.get("id", number)), "", question, context, (), True, number)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers; InputError where it is no text, or one has no end."""
    mend = "give a UTF-8 file of JSON lines"
    with opened(path, mend) as file:
        # Of bytes: a JSON string may hold a line separator of Unicode as it is.
        for number, line in enumerate(iter(lambda: file.readline(MOST + 1), b""), start=1):
            if len(line) > MOST:
                raise InputError(f"{path}, line {number}: it has more than {MOST:,} bytes; {mend}")
            if line.strip():
                with reading(path, mend):
                    text = line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode()
                yield number, text
