"""Questions and contexts as windows of tokens: what an extractive reader is fed.

A context that does not fit is cut into windows of `max_length` tokens that overlap by `stride` tokens, each with the
whole question in front (Devlin et al. 2019, and the SQuAD example of transformers). Features for training lie flat in
memory-mapped files, so millions of questions need little memory; features for answering stay in memory, a chunk at
a time.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from compresskit import console
from compresskit.data.examples import Example
from compresskit.errors import MissingError, UsageError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast

CHUNK = 1024
# A window must show at least this many new tokens of the context, whatever the length of the question.
MIN_STEP = 16

_Array = NDArray[np.int64]


class Feature(TypedDict):
    """One training window. `input_ids` and `token_type_ids` are int arrays of shape (length,); the rest are ints.

    `start` and `end` are the answer's first and last token; both are the null position (the [CLS] token) where the
    window does not hold the answer. `index` is the feature's own number.
    """

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.uint8]
    start: int
    end: int
    index: int


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a context is cut: `max_length` tokens a window, `stride` tokens of overlap (both in tokens)."""

    max_length: int = 384
    stride: int = 128


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
    require_windows()
    questions = _cut_questions(tokenizer, [example.question.strip() for example in examples], options)
    encoding = tokenizer(
        questions,
        [example.context for example in examples],
        truncation="only_second",
        max_length=options.max_length,
        stride=options.stride,
        return_overflowing_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=True,
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
    encoding = tokenizer([questions[i] for i in long], add_special_tokens=False)
    cut = [(row, i) for row, i in enumerate(long) if len(encoding["input_ids"][row]) > limit]
    for row, i in cut:
        questions[i] = questions[i][: token_characters(encoding, row, limit - 1)[1]]
    if cut:
        console.warn(
            f"{len(cut)} question(s) longer than {limit} tokens were cut; raise --max-length to keep them whole"
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


def answer_tokens(windows: Windows, window: int, start: int, end: int) -> tuple[int, int] | None:
    """First and last token of the context's characters [start, end); None where the window lacks some of them."""
    encoding = windows.encoding
    first = next((t for c in range(start, end) if (t := encoding.char_to_token(window, c, 1)) is not None), None)
    last = next(
        (t for c in range(end - 1, start - 1, -1) if (t := encoding.char_to_token(window, c, 1)) is not None),
        None,
    )
    if first is None or last is None:
        return None
    # An answer cut by the window's edge has characters whose token lies in the next window only.
    if token_characters(encoding, window, first)[0] > start and first == windows.context_start[window]:
        return None
    if token_characters(encoding, window, last)[1] < end and last == windows.context_end[window] - 1:
        return None
    return first, last


class FeatureSet(Sequence[Feature]):
    """Training windows in memory-mapped files: a map-style dataset of `Feature`.

    Files in `folder`: the token ids of all windows one after another (int32), their token types (uint8), the bounds of
    each (int64, one more than there are windows), and first and last token of each answer (int32 pairs).
    """

    def __init__(self, folder: Path) -> None:
        self._ids = np.memmap(folder / "ids.i32", dtype=np.int32, mode="r")
        self._types = np.memmap(folder / "types.u8", dtype=np.uint8, mode="r")
        self.bounds: _Array = np.fromfile(folder / "bounds.i64", dtype=np.int64)
        self._spans = np.fromfile(folder / "spans.i32", dtype=np.int32).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: Any) -> Any:
        """The `Feature` of one window; the dataset is never sliced."""
        where = slice(self.bounds[index], self.bounds[index + 1])
        start, end = self._spans[index]
        return {
            "input_ids": self._ids[where],
            "token_type_ids": self._types[where],
            "start": int(start),
            "end": int(end),
            "index": index,
        }

    @property
    def lengths(self) -> _Array:
        """Length of every window in tokens, shape (windows,)."""
        return np.diff(self.bounds)

    def fingerprint(self) -> str:
        """SHA-256 of what a model is fed (ids, types and bounds, not the labels): the key of a teacher's logits."""
        digest = hashlib.sha256(self.bounds.tobytes())
        for flat in (self._ids, self._types):
            for begin in range(0, len(flat), 1 << 22):
                digest.update(flat[begin : begin + (1 << 22)].tobytes())
        return digest.hexdigest()


def build_features(
    tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example], options: WindowOptions, folder: Path
) -> FeatureSet:
    """Tokenize examples into training windows, labelled with their first answer, written to `folder`.

    Memory use does not grow with the number of examples, but for 16 bytes a window. Raises UsageError where the window
    leaves no room for a question.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bounds, spans = [0], []
    with (folder / "ids.i32").open("wb") as ids_file, (folder / "types.u8").open("wb") as types_file:
        for chunk in chunked(examples, CHUNK):
            windows = encode(tokenizer, chunk, options)
            for window in range(len(windows)):
                ids = windows.encoding["input_ids"][window]
                ids_file.write(np.asarray(ids, dtype=np.int32).tobytes())
                types_file.write(np.asarray(windows.encoding["token_type_ids"][window], dtype=np.uint8).tobytes())
                bounds.append(bounds[-1] + len(ids))
                spans.append(_label(tokenizer, windows, window, chunk[windows.example[window]], ids))
    # Not by `tofile`, whose error on a full disk does not say so.
    (folder / "bounds.i64").write_bytes(np.asarray(bounds, dtype=np.int64).tobytes())
    (folder / "spans.i32").write_bytes(np.asarray(spans, dtype=np.int32).tobytes())
    return FeatureSet(folder)


def _label(
    tokenizer: PreTrainedTokenizerFast, windows: Windows, window: int, example: Example, ids: Sequence[int]
) -> tuple[int, int]:
    if example.answers:
        answer = example.answers[0]
        found = answer_tokens(windows, window, answer.start, answer.start + len(answer.text))
        if found is not None:
            return found
    null = null_position(tokenizer, ids)
    return null, null


def chunked(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Lists of `size` consecutive examples (the last may be shorter)."""
    iterator = iter(examples)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
