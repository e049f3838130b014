"""What two sets of questions have in common: texts are the same whichever white space, case and Unicode form they have.

Of each text only eight bytes are held: among a million texts two are taken for one with a chance of one in ten million.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from compresskit.data.examples import Example, ExampleSet

_BYTES = 8


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many questions and paragraphs of one set stand in another."""

    questions: int
    paragraphs: int


def overlap(one: ExampleSet, other: ExampleSet) -> Overlap:
    """What of `one` stands in `other`.

    A question does where the same is asked of the same paragraph, or has an answer that is the same.
    """
    contexts = _sorted(text_hash(context) for _, context in other.paragraphs())
    asked = _sorted(key for keys in _keys(other) for key in keys)
    paragraphs = sum(_holds(contexts, text_hash(context)) for _, context in one.paragraphs())
    questions = sum(any(_holds(asked, key) for key in keys) for keys in _keys(one))
    return Overlap(questions, paragraphs)


def text_hash(text: str) -> int:
    """The hash of a text, whichever white space, case and Unicode form it is written in."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return hash_of(" ".join(plain.casefold().split()).encode("utf-8", "replace"))


def hash_of(data: bytes) -> int:
    """The hash of some bytes, which fits into eight."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=_BYTES).digest(), "little")


def question_keys(question: str, context: int, answers: Iterable[str]) -> set[int]:
    """By what a question is the same as another: together with its paragraph (a hash), or with one of its answers."""
    asked = text_hash(question)
    return {_pair(asked, context), *(_pair(asked, text_hash(answer)) for answer in answers)}


def in_order(examples: Iterable[Example]) -> Iterator[tuple[Example, int]]:
    """Each question with the hash of its paragraph, which is made once for those that follow each other."""
    paragraph, context = -1, 0
    for example in examples:
        if example.paragraph != paragraph:
            paragraph, context = example.paragraph, text_hash(example.context)
        yield example, context


def _keys(examples: Iterable[Example]) -> Iterator[set[int]]:
    for example, context in in_order(examples):
        yield question_keys(example.question, context, (answer.text for answer in example.answers))


def _pair(one: int, other: int) -> int:
    return hash_of(one.to_bytes(_BYTES, "little") + other.to_bytes(_BYTES, "little"))


def _sorted(hashes: Iterable[int]) -> NDArray[np.uint64]:
    return np.unique(np.frombuffer(array("Q", hashes), dtype=np.uint64))


def _holds(known: NDArray[np.uint64], sought: int) -> bool:
    at = int(np.searchsorted(known, np.uint64(sought)))
    return at < len(known) and int(known[at]) == sought
