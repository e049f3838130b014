"""Ask a loaded checkpoint: a whole data set, or one question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from compresskit import console
from compresskit.data.examples import Example
from compresskit.errors import InputError

if TYPE_CHECKING:
    from compresskit.models.answering import AnswerOptions, Prediction
    from compresskit.models.loaded import LoadedModel


class Questions(Protocol):
    """What is asked of a set of questions: a list of `Example` will do, and an `ExampleSet`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...

    def __iter__(self) -> Iterator[Example]: ...


def predictions(
    loaded: LoadedModel, examples: Questions, options: AnswerOptions, description: str = "answer"
) -> Iterator[Prediction]:
    """Yield the prediction for every one of `examples`, in their order, under a progress bar.

    Raises what the family raises: RunFailed where a logit is not a number.
    """
    with console.progress(len(examples), description, unit="questions") as bar:
        for done, prediction in enumerate(answers(loaded, examples, options), start=1):
            yield prediction
            if done % options.batch_size == 0 or done == len(examples):
                bar.update(done)


def answers(loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
    """Yield the prediction for every one of `examples`, in their order, silently."""
    return loaded.task.answer(loaded, examples, options)


def answer_one(loaded: LoadedModel, question: str, context: str, options: AnswerOptions) -> Prediction:
    """Answer one question about one passage; an empty `Prediction.text` means that the passage does not tell.

    Raises InputError where the question or the passage is empty.
    """
    for name, text in (("question", question), ("context", context)):
        if not text.strip():
            raise InputError(f"the {name} is empty; give one that says something")
    example = Example(
        id="question",
        title="",
        question=question,
        context=context,
        answers=(),
        is_impossible=True,
        paragraph=0,
    )
    (prediction,) = answers(loaded, [example], replace(options, batch_size=1))
    return prediction
