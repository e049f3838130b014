"""Questions and contexts as prompts: texts of at most `max_length` tokens.

A context that does not fit is cut into windows that overlap by `stride` tokens, each with the whole question and all of
the prompt around it. A window is a text of its own, tokenized as a whole, so that the model reads exactly what the
prompt says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresskit import console
from compresskit.data.examples import Example
from compresskit.errors import UsageError
from compresskit.models.answering import WindowOptions
from compresskit.models.prompt import Prompt
from compresskit.models.tasks.windows import LEAST_QUESTION, MIN_STEP, more_room
from compresskit.text import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# A window begins with a word; where none begins, as in languages without blanks, so many tokens back it does anyway.
LONGEST_WORD = 16
# The tokens of prompts.
Read = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True, slots=True)
class PromptWindow:
    """What the model reads of one example: token `ids`, which show the context's characters `start` to `end`.

    `example` is the position of the example in its chunk.
    """

    ids: Sequence[int]
    example: int
    start: int
    end: int


def encode_prompts(
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    prompt: Prompt,
    options: WindowOptions,
    goes_on: bool = False,
) -> list[PromptWindow]:
    """The windows of a chunk of examples, in order; too long questions are cut, with a warning that counts them.

    Where a model `goes_on` with a prompt, the end of a text that a tokenizer puts behind it is left out.

    Raises UsageError where the options leave no room for a question.
    """
    texts = [prompt.text(example.question.strip(), example.context) for example in examples]
    read = functools.partial(_ids, tokenizer, goes_on)
    windows: list[PromptWindow] = []
    cut = 0
    for number, (example, ids) in enumerate(zip(examples, read(texts), strict=True)):
        if len(ids) <= options.max_length:
            windows.append(PromptWindow(ids, number, 0, len(example.context)))
            continue
        question, was_cut = _fitting(tokenizer, read, example.question.strip(), prompt, options)
        cut += was_cut
        offsets = tokenizer(example.context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        windows += _cut(read, offsets, number, question, example.context, prompt, options)
    if cut:
        console.warn(f"cut {counted(cut, 'question')} too long for a window; raise --max-length to keep them whole")
    return windows


def _ids(tokenizer: PreTrainedTokenizerFast, goes_on: bool, texts: list[str]) -> list[list[int]]:
    """The tokens of prompts, without an end of text where a model goes on with them."""
    rows: list[list[int]] = tokenizer(texts)["input_ids"]
    end = tokenizer.eos_token_id if goes_on else None
    return rows if end is None else [row[:-1] if row[-1:] == [end] else row for row in rows]


def _fitting(
    tokenizer: PreTrainedTokenizerFast, read: Read, question: str, prompt: Prompt, options: WindowOptions
) -> tuple[str, bool]:
    """The question, cut where it leaves no room for the stride and MIN_STEP tokens of context; whether it was cut."""
    own = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
    frame = len(read([prompt.text("", "")])[0])
    limit = options.max_length - options.stride - MIN_STEP - frame
    if limit < LEAST_QUESTION:
        raise UsageError(
            f"--max-length {options.max_length} leaves no room for a question beside the prompt's {frame} tokens and "
            f"--stride {options.stride}; {more_room(options, frame + MIN_STEP + LEAST_QUESTION)}"
        )
    if len(own["input_ids"]) <= limit:
        return question, False
    return question[: own["offset_mapping"][limit - 1][1]], True


def _cut(
    read: Read,
    offsets: Sequence[tuple[int, int]],
    number: int,
    question: str,
    context: str,
    prompt: Prompt,
    options: WindowOptions,
) -> Iterator[PromptWindow]:
    """The windows of one long context, whose tokens stand at these `offsets`."""
    room = options.max_length - len(read([prompt.text(question, "")])[0])
    begin = 0
    while True:
        end = min(begin + room, len(offsets))
        while True:
            start, stop = offsets[begin][0], offsets[end - 1][1]
            (ids,) = read([prompt.text(question, context[start:stop].strip())])
            # The first and the last word may be other tokens here than in the whole text, and more of them.
            if len(ids) <= options.max_length or end - begin <= 1:
                break
            end = max(end - (len(ids) - options.max_length), begin + 1)
        yield PromptWindow(ids, number, start, stop)
        if end == len(offsets):
            return
        begin = _word_start(offsets, context, end - options.stride, begin + 1)


def _word_start(offsets: Sequence[tuple[int, int]], context: str, token: int, least: int) -> int:
    """The token at or before `token` that begins a word; `token` itself where none is near. At least `least`."""
    for candidate in range(token, max(token - LONGEST_WORD, least) - 1, -1):
        start = offsets[candidate][0]
        if start == 0 or context[start].isspace() or context[start - 1].isspace():
            return max(candidate, least)
    return max(token, least)
