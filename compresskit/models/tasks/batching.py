"""Batches of texts of like length, and chunks of questions that are tokenized while the model works."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from compresskit.data.examples import Example
from compresskit.models.answering import AnswerOptions
from compresskit.models.tasks.windows import CHUNK

Prepared = TypeVar("Prepared")

# Padding to a multiple of 8 keeps the matrix units of a GPU busy. A CPU is up to 4 % faster with less; without any, the
# many shapes of its batches leave memory in pieces (300 MB more after 60,000 questions, and growing).
PAD_MULTIPLE, CPU_PAD_MULTIPLE = 8, 4
# Where windows are short a GPU takes up to so many times `batch_size` of them at once: on an H200 that gave 1.4 times
# the questions a second in bf16, 1.05 times in fp32. A CPU gains nothing and loses to the padding (5 to 18 %).
MOST_SHORT_WINDOWS = 4
# The first chunk is small, so that the model begins early; each is so many times as large as the one before.
FIRST_CHUNK, GROWTH = 64, 4


def rounded_up(length: int, multiple: int) -> int:
    """The least multiple that is not below `length`."""
    return -(-length // multiple) * multiple


def graph_length(length: int) -> int:
    """`length` rounded up to one of eight lengths for each doubling, so that batches have few shapes.

    At most an eighth more, and never to more than a multiple of PAD_MULTIPLE where that is larger.
    """
    return rounded_up(length, max(PAD_MULTIPLE, 1 << max((length - 1).bit_length() - 4, 0)))


def batches_by_tokens(lengths: Sequence[int], tokens: int, most: int) -> Iterator[list[int]]:
    """The positions in `lengths`, longest first, in batches of at most `tokens` tokens and `most` rows.

    Padding to the longest of the batch counts. A batch holds one row at least, however long that is.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    begin = 0
    while begin < len(order):
        end = begin + min(max(tokens // lengths[order[begin]], 1), most)
        yield order[begin:end]
        begin = end


def inference_batches(lengths: Sequence[int], device: str, options: AnswerOptions) -> tuple[int, Iterator[list[int]]]:
    """For windows of so many tokens on a device of that type: what to pad to a multiple of, and the rows of batches."""
    multiple = PAD_MULTIPLE if device == "cuda" else CPU_PAD_MULTIPLE
    tokens = options.batch_size * rounded_up(options.max_length, multiple)
    rounded = [rounded_up(length, multiple) for length in lengths]
    return multiple, batches_by_tokens(rounded, tokens, most_windows(device, options))


def most_windows(device: str, options: AnswerOptions) -> int:
    """How many windows a batch has at most on a device of that type, however short they are."""
    return options.batch_size * (MOST_SHORT_WINDOWS if device == "cuda" else 1)


def prepared_chunks(
    examples: Iterable[Example], prepare: Callable[[list[Example]], Prepared]
) -> Iterator[tuple[list[Example], Prepared]]:
    """Chunks of growing size with what `prepare` makes of each; a thread prepares the next while the caller works."""
    iterator = iter(examples)

    def take(size: int) -> tuple[list[Example], Prepared] | None:
        chunk = list(itertools.islice(iterator, size))
        return (chunk, prepare(chunk)) if chunk else None

    size = min(FIRST_CHUNK, CHUNK)
    prepared = take(size)
    if prepared is not None and len(prepared[0]) < size:
        yield prepared  # a few questions, or one that is timed, need not wait for a thread to start
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        while prepared is not None:
            size = min(GROWTH * size, CHUNK)
            pending = pool.submit(take, size)
            yield prepared
            prepared = pending.result()
