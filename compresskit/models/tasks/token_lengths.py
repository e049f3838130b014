"""How long the texts of a data set are in a model's tokens, and how many windows show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compresskit import console
from compresskit.data.check import Spread, spread
from compresskit.data.examples import Example, ExampleSet
from compresskit.models.answering import WindowOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.tasks.generation import GenerationTask
from compresskit.models.tasks.prompt_windows import encode_prompts
from compresskit.models.tasks.text_answers import prompt_of
from compresskit.models.tasks.windows import AS_TEXT, CHUNK, chunked, encode


def token_lengths(loaded: LoadedModel, examples: ExampleSet) -> dict[str, Spread | None]:
    """The lengths of each context, each question and every answer in the model's tokens, without special ones."""
    texts: dict[str, Iterable[str]] = {
        "context": (context for _, context in examples.paragraphs()),
        "question": (example.question.strip() for example in examples),
        "answer": (answer.text for example in examples for answer in example.answers),
    }
    return {name: spread(_lengths(loaded.tokenizer, each)) for name, each in texts.items()}


def window_counts(loaded: LoadedModel, examples: ExampleSet, options: WindowOptions) -> NDArray[np.int64]:
    """How many windows show each question, as training and answering make them, under a progress bar.

    Raises UsageError where the options leave no room for a question.
    """
    found = [np.zeros(0, dtype=np.int64)]
    with console.progress(len(examples), "windows", unit="questions") as bar:
        for chunk in chunked(examples, CHUNK):
            found.append(np.bincount(_shown(loaded, chunk, options), minlength=len(chunk)))
            bar.update(sum(map(len, found)))
    return np.concatenate(found)


def _shown(loaded: LoadedModel, chunk: Sequence[Example], options: WindowOptions) -> list[int]:
    """The example that each window shows, by its number in the chunk."""
    task = loaded.task
    if not isinstance(task, GenerationTask):
        return encode(loaded.tokenizer, chunk, options).example
    prompt = prompt_of(loaded, options.prompt_template)
    return [window.example for window in encode_prompts(loaded.tokenizer, chunk, prompt, options, task.goes_on)]


def _lengths(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> NDArray[np.int64]:
    def lengths() -> Iterator[int]:
        for chunk in chunked(texts, CHUNK):
            yield from map(len, tokenizer(chunk, add_special_tokens=False, verbose=False, **AS_TEXT)["input_ids"])

    return np.fromiter(lengths(), dtype=np.int64)
