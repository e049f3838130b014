"""Windows as a reader is fed them, made with little work: each context of a chunk of questions is tokenized once.

Data sets ask several questions about a paragraph. Its tokens are the same each time, so questions and contexts are
tokenized apart, and the windows are put together here. That this gives what the tokenizer itself makes of a pair is
looked at in every chunk, for its longest example; where it does not, the tokenizer makes all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compresskit.data.examples import Example
from compresskit.models.answering import WindowOptions
from compresskit.models.tasks.windows import (
    AS_TEXT,
    Windows,
    asked,
    encode_pairs,
    null_position,
    require_windows,
    token_characters,
)

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Reading:
    """The windows of a chunk of examples, in order, one entry each in the lists.

    `ids` and `types` are its tokens and their segments; `example` is the position of its example in the chunk; its
    context is its tokens `first` to `last` (exclusive); `null` is the token that stands for "no answer". `encodings[i]`
    holds the context of window i, whose first token is number `skipped[i]` there.
    """

    ids: list[Ids]
    types: list[Ids]
    example: list[int]
    first: list[int]
    last: list[int]
    null: list[int]
    encodings: list[Any]
    skipped: list[int]

    def characters(self, window: int, token: int) -> tuple[int, int]:
        """The characters [start, end) of the context that a token of a window stands for; (0, 0) for a special one."""
        place = self.skipped[window] + token - self.first[window]
        found: tuple[int, int] | None = self.encodings[window].token_to_chars(place)
        return found if found is not None else (0, 0)


def read_windows(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], options: WindowOptions) -> Reading:
    """The windows of a chunk of examples, as `windows.encode` cuts them, which says what is raised."""
    require_windows()
    questions = asked(tokenizer, examples, options)
    contexts = [example.context for example in examples]
    if len(set(contexts)) < len(contexts):
        longest = max(range(len(contexts)), key=lambda i: len(contexts[i]))
        sample = encode_pairs(tokenizer, [questions[longest]], [contexts[longest]], options)
        frame = _Frame.of(sample)
        if frame is not None:
            found = _put_together(tokenizer, questions, contexts, options, frame)
            if _is_sample(found, longest, sample):
                return found
    return _as_encoded(tokenizer, encode_pairs(tokenizer, questions, contexts, options))


def _as_encoded(tokenizer: PreTrainedTokenizerFast, windows: Windows) -> Reading:
    """The windows that the tokenizer made."""
    ids = windows.encoding["input_ids"]
    return Reading(
        ids=[np.array(each, np.int32) for each in ids],
        types=[np.array(each, np.int32) for each in windows.encoding["token_type_ids"]],
        example=windows.example,
        first=windows.context_start,
        last=windows.context_end,
        null=[null_position(tokenizer, each) for each in ids],
        encodings=list(windows.encoding.encodings or ()),
        skipped=windows.context_start,
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around question and context in a window: the special tokens, and the types of all parts.

    `types` are those of `before`, the question, `between`, the context and `after`; each part has one.
    """

    before: Ids
    between: Ids
    after: Ids
    types: Ids

    @classmethod
    def of(cls, windows: Windows) -> _Frame | None:
        """The frame of the first window; None where it is not that of a question and a context in this order."""
        segments = windows.encoding.sequence_ids(0)
        if 0 not in segments or 1 not in segments:
            return None
        question, context = segments.index(0), segments.index(1)
        bounds = (0, question, question + segments.count(0), context, context + segments.count(1), len(segments))
        if list(bounds) != sorted(bounds):
            return None
        parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
        ids = np.array(windows.encoding["input_ids"][0], np.int32)
        types = [windows.encoding["token_type_ids"][0][part] for part in parts]
        before, between, after = (ids[part] for part in parts[::2])
        return cls(before, between, after, np.array([each[0] if each else 0 for each in types], np.int32))

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return len(self.before) + len(self.between) + len(self.after)


def _put_together(
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[str],
    contexts: Sequence[str],
    options: WindowOptions,
    frame: _Frame,
) -> Reading:
    """The windows of questions and contexts that are tokenized apart."""
    places: dict[str, int] = {}
    rows = [places.setdefault(context, len(places)) for context in contexts]
    texts, encodings = _tokenized(tokenizer, list(places))
    asked_of, _ = _tokenized(tokenizer, questions)
    found = Reading([], [], [], [], [], [], [], [])
    for number, (question, row) in enumerate(zip(asked_of, rows, strict=True)):
        context = texts[row]
        first = len(frame.before) + len(question) + len(frame.between)
        for begin, end in _cut(len(context), options.max_length - frame.size - len(question), options.stride):
            parts = (frame.before, question, frame.between, context[begin:end], frame.after)
            found.ids.append(np.concatenate(parts))
            found.types.append(frame.types.repeat([len(part) for part in parts]))
            found.example.append(number)
            found.first.append(first)
            found.last.append(first + end - begin)
            found.encodings.append(encodings[row])
            found.skipped.append(begin)
    found.null.extend(_null_positions(tokenizer, frame, found.ids))
    return found


def _tokenized(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> tuple[list[Ids], list[Any]]:
    made: BatchEncoding = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # it would say that a context is longer than a window
        **AS_TEXT,
    )
    return [np.array(ids, np.int32) for ids in made["input_ids"]], list(made.encodings or ())


def _cut(length: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """The parts [begin, end) of a context of `length` tokens that its windows have `room` for."""
    for begin in range(0, max(length, 1), room - stride):
        yield begin, min(begin + room, length)
        if begin + room >= length:
            return


def _null_positions(tokenizer: PreTrainedTokenizerFast, frame: _Frame, ids: Sequence[Ids]) -> list[int]:
    cls = tokenizer.cls_token_id
    if cls is None or cls in frame.before:  # the same place in all windows
        return [null_position(tokenizer, frame.before.tolist())] * len(ids)
    return [null_position(tokenizer, each.tolist()) for each in ids]


def _is_sample(found: Reading, example: int, sample: Windows) -> bool:
    """Whether the windows of an example are those that the tokenizer itself makes of it."""
    rows = [row for row, number in enumerate(found.example) if number == example]
    if len(rows) != len(sample):
        return False
    encoded = zip(rows, sample.encoding["input_ids"], sample.encoding["token_type_ids"], strict=True)
    same = all(found.ids[row].tolist() == ids and found.types[row].tolist() == types for row, ids, types in encoded)
    window, tokens = rows[0], range(sample.context_start[0], sample.context_end[0])
    return same and all(found.characters(window, at) == token_characters(sample.encoding, 0, at) for at in tokens)
