"""Training features of extractive readers: windows with the first and the last token of the answer.

They lie flat in memory-mapped files, so millions of questions need little memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from compresskit.data.examples import Example
from compresskit.models.answering import WindowOptions
from compresskit.models.tasks.windows import CHUNK, Windows, chunked, encode, null_position, token_characters

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

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


class SpanFeatures(Sequence[Feature]):
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


def write_features(
    tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example], options: WindowOptions, folder: Path
) -> SpanFeatures:
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
    return SpanFeatures(folder)


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
