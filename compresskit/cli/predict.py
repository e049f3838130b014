"""`compresskit predict`: answer questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compresskit.cli import options as flags
from compresskit.errors import InputError, UsageError

if TYPE_CHECKING:
    from compresskit.data.examples import Example
    from compresskit.models.family import Prediction


def predict(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A fine-tuned checkpoint.", show_default=False)],
    question: Annotated[str | None, typer.Option("-q", "--question", metavar="TEXT", help="The question.")] = None,
    context: Annotated[str | None, typer.Option("-c", "--context", metavar="TEXT", help="The passage to read.")] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help='JSON lines with "question", "context" and, if you like, "id".'),
    ] = None,
    n_best: Annotated[int, typer.Option(min=1, metavar="N", help="Candidates to show.")] = 1,
    null_threshold: Annotated[
        float, typer.Option(metavar="T", help="Unanswerable where null score - score is above this.")
    ] = 0.0,
    batch_size: flags.EvalBatchSize = 32,
    max_length: flags.MaxLength = flags.DEFAULT_MAX_LENGTH,
    stride: flags.Stride = flags.DEFAULT_STRIDE,
    device: flags.Device = "auto",
) -> None:
    """Answer a question, or every line of a file: text, score and null score, one JSON object a line."""
    if (input_ is None) == (question is None or context is None):
        raise UsageError("give a question and a passage (-q … -c …), or a file of them (--input FILE)")
    from compresskit import console
    from compresskit.evaluate.predict import answer_one, answers
    from compresskit.models.family import AnswerOptions
    from compresskit.models.registry import load, require_head

    examples = list(read_questions(input_)) if input_ is not None else None
    loaded = require_head(load(checkpoint, device=device))
    options = AnswerOptions(max_length, stride, batch_size, n_best, null_threshold=null_threshold)
    if examples is None:
        console.out(_line(answer_one(loaded, str(question), str(context), options), n_best))
        return
    for prediction in answers(loaded, examples, options):
        console.out(_line(prediction, n_best, with_id=True))


def _line(prediction: Prediction, n_best: int, *, with_id: bool = False) -> str:
    found: dict[str, object] = {"id": prediction.id} if with_id else {}
    found |= {"text": prediction.text, "score": prediction.score, "null_score": prediction.null_score}
    if n_best > 1:
        found["n_best"] = [{"text": c.text, "score": c.score} for c in prediction.n_best]
    return json.dumps(found, ensure_ascii=False)


def read_questions(path: Path) -> Iterator[Example]:
    """Questions of a JSON-lines file; InputError naming the line where one is broken."""
    from compresskit.data.examples import Example

    try:
        # Not `splitlines`: a JSON string may hold a line separator of Unicode as it is.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a UTF-8 file of JSON lines") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            question, context = record["question"], record["context"]
            if not (isinstance(question, str) and isinstance(context, str)):
                raise TypeError("question and context are texts")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f'{path}, line {number}: not an object with "question" and "context" ({error})') from error
        yield Example(str(record.get("id", number)), "", question, context, (), True, number)
