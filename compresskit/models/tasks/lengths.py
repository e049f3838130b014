"""Gold answers that are longer than any answer that is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from compresskit.data.examples import Example
from compresskit.models.tasks.windows import CHUNK, chunked
from compresskit.text import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def too_long(tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example], most: int) -> int:
    """How many questions have gold answers of more than `most` tokens alone, so that none of them can be given."""
    found = 0
    for chunk in chunked(examples, CHUNK):
        # A token is a byte at least, so most answers need not be tokenized.
        bytes_of = [[len(answer.text.encode()) for answer in example.answers] for example in chunk]
        texts = [
            [answer.text for answer in example.answers]
            for example, sizes in zip(chunk, bytes_of, strict=True)
            if sizes and min(sizes) > most
        ]
        if texts:
            ids = iter(tokenizer([text for each in texts for text in each], add_special_tokens=False)["input_ids"])
            found += sum(min(len(next(ids)) for _ in each) > most for each in texts)
    return found


def told_too_long(count: int, most: int, data: str) -> str:
    """What is told of `count` such questions of the data set `data`."""
    return (
        f"the gold answers to {counted(count, 'question')} of {data} have more than {most} tokens, "
        "and no answer is that long; raise --max-answer-length"
    )
