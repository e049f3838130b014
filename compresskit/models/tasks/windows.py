"""Questions and contexts as windows of tokens.

A context that does not fit is cut into windows of `max_length` tokens that overlap by `stride` tokens, each with the
whole question in front (Devlin et al. 2019, and the SQuAD example of transformers).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar

from compresskit import console
from compresskit.data.examples import Example
from compresskit.errors import MissingError, UsageError
from compresskit.models.answering import WindowOptions
from compresskit.text import counted

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast

Item = TypeVar("Item")
# Questions that are tokenized together.
CHUNK = 1024
# A window must show at least this many new tokens of the context, whatever the length of the question.
MIN_STEP = 16
# The name of a special token in a text, such as `</s>`, is text: as a separator it would end a question, or a context.
AS_TEXT = {"split_special_tokens": True}


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a chunk of examples, in order.

    `encoding` is the tokenizer's own (token to character and back); `example[i]` is the position in the chunk of the
    example of window i; the context of window i is its tokens `context_start[i]` to `context_end[i]` (exclusive).
    """

    encoding: BatchEncoding
    example: list[int]
    context_start: list[int]
    context_end: list[int]

    def __len__(self) -> int:
        return len(self.example)


def max_question_tokens(tokenizer: PreTrainedTokenizerFast, options: WindowOptions) -> int:
    """Longest question, in tokens, that leaves room for the stride and MIN_STEP tokens of context.

    Raises UsageError where the options leave no room for a question at all.
    """
    room = options.max_length - options.stride - tokenizer.num_special_tokens_to_add(pair=True) - MIN_STEP
    if room < 8:
        raise UsageError(
            f"--max-length {options.max_length} leaves no room for a question beside --stride {options.stride}; "
            "raise --max-length or lower --stride"
        )
    return room


@functools.cache
def require_windows() -> None:
    """MissingError where the installed tokenizers drops windows of long texts, as 0.23.1 and 0.23.2 do.

    They stop tokenizing once the first window is full (https://github.com/huggingface/tokenizers/issues/2091), so a
    reader would not see the end of long contexts, and nothing would say so. Checked once, on a text of 30 words.
    """
    windows = _count_windows(words=30, length=10, stride=2)
    if windows != 4:  # the words 0-9, 8-17, 16-25 and 24-29
        raise MissingError(
            f"tokenizers {metadata.version('tokenizers')} drops the windows of long contexts; "
            "install one that does not: pip install 'tokenizers>=0.23.3'"
        )


def _count_windows(words: int, length: int, stride: int) -> int:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({"word": 0}, unk_token="word"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.enable_truncation(length, stride=stride)
    return 1 + len(tokenizer.encode(" ".join(["word"] * words)).overflowing)


def encode(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], options: WindowOptions) -> Windows:
    """Tokenize a chunk of examples into windows; too long questions are cut, with a warning that counts them.

    Raises UsageError where the options leave no room for a question, MissingError for a tokenizers that loses windows.
    """
    return encode_pairs(tokenizer, asked(tokenizer, examples, options), [one.context for one in examples], options)


def asked(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], options: WindowOptions) -> list[str]:
    """The questions of examples as they are put: stripped, and too long ones cut, with a warning that counts them.

    Raises UsageError where the options leave no room for a question.
    """
    return _cut_questions(tokenizer, [example.question.strip() for example in examples], options)


def encode_pairs(
    tokenizer: PreTrainedTokenizerFast, questions: Sequence[str], contexts: Sequence[str], options: WindowOptions
) -> Windows:
    """The windows of questions that have room, each with its context. Raises MissingError as `encode` does."""
    require_windows()
    encoding = tokenizer(
        questions,
        contexts,
        truncation="only_second",
        max_length=options.max_length,
        stride=options.stride,
        return_overflowing_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=True,
        **AS_TEXT,
    )
    starts, ends = [], []
    for window in range(len(encoding["input_ids"])):
        segments = encoding.sequence_ids(window)
        first = segments.index(1) if 1 in segments else len(segments)
        starts.append(first)
        ends.append(first + segments.count(1))
    return Windows(encoding, encoding["overflow_to_sample_mapping"], starts, ends)


def _cut_questions(tokenizer: PreTrainedTokenizerFast, questions: list[str], options: WindowOptions) -> list[str]:
    limit = max_question_tokens(tokenizer, options)
    # A token has at least one character, so short questions need not be tokenized twice.
    long = [i for i, question in enumerate(questions) if len(question) > limit]
    if not long:
        return questions
    encoding = tokenizer([questions[i] for i in long], add_special_tokens=False, **AS_TEXT)
    cut = [(row, i) for row, i in enumerate(long) if len(encoding["input_ids"][row]) > limit]
    for row, i in cut:
        questions[i] = questions[i][: token_characters(encoding, row, limit - 1)[1]]
    if cut:
        console.warn(
            f"cut {counted(len(cut), 'question')} of more than {limit} tokens; raise --max-length to keep them whole"
        )
    return questions


def token_characters(encoding: BatchEncoding, row: int, token: int) -> tuple[int, int]:
    """The characters [start, end) of its own text that a token stands for; (0, 0) for a special token."""
    span = encoding.token_to_chars(row, token)
    return (span.start, span.end) if span is not None else (0, 0)


def null_position(tokenizer: PreTrainedTokenizerFast, input_ids: Sequence[int]) -> int:
    """Index of the token that stands for "no answer": the [CLS] token, or the first where the tokenizer has none."""
    cls = tokenizer.cls_token_id
    return input_ids.index(cls) if cls is not None and cls in input_ids else 0


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` consecutive items (the last may be shorter)."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
