"""Constructed unanswerable questions, hard ones: a question put to the wrong paragraph that looks most right.

A question put to a paragraph picked at random gives itself away, since the two share no words. So each is put
to the paragraph that BM25 finds closest to it among those that do not hold an answer.
"""

from __future__ import annotations

import random
import re
import string
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit import packages
from compresskit.data.examples import Example, ExampleSet
from compresskit.data.store import Folder, QuestionWriter
from compresskit.errors import InputError, UsageError

SUFFIX = "#negative"
"""What the id of a constructed question adds to the id of the question it is made from."""

NEAR_DUPLICATE = 0.5
"""Paragraphs that share this much of their distinct words tell the same story: there may be an answer."""

_CACHED_PARAGRAPHS = 8192
_FIRST_CANDIDATES = 16
_WORD = re.compile(r"\w+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def with_negatives(examples: ExampleSet, fraction: float, seed: int) -> ExampleSet:
    """`examples`, followed by constructed unanswerable questions.

    `fraction`, 0 <= fraction <= 1, is how many are added, as a share of the answerable questions (rounded):
    0.5 is one for every two. Which questions they are made from is drawn with `seed`; a question for which no
    paragraph shares a word without holding an answer is passed over for another, so in a small set there may
    be fewer. A constructed question has the id `<id>#negative`; path and sha256 stay those of the source.

    Raises UsageError for a fraction out of range, InputError where nothing can be constructed.
    """
    if not 0 <= fraction <= 1:
        raise UsageError(f"--negatives {fraction:g} is out of range; it is a share from 0 to 1")
    answerable = examples.info.questions - examples.info.unanswerable
    wanted = round(fraction * answerable)
    if not wanted:
        return examples
    if examples.info.paragraphs < 2:
        raise InputError(
            f"{examples.info.path}: --negatives needs at least two paragraphs, and there is one; leave it out"
        )
    writer = QuestionWriter(Folder())
    search = _Search(examples)
    for example in _shuffled(examples, seed):
        if writer.rows == wanted:
            break
        paragraph = search.paragraph_for(example)
        if paragraph is not None:
            writer.add(example.id + SUFFIX, example.question, paragraph, (), 0)
    if not writer.rows:
        raise InputError(
            f"{examples.info.path}: --negatives finds no paragraph that shares a word with a question and "
            "lacks its answers; leave it out or pass more paragraphs"
        )
    return examples.extended(writer.extend(examples.store))


def _shuffled(examples: ExampleSet, seed: int) -> Iterator[Example]:
    """The answerable questions, in random order."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    for index in order:
        example = examples[index]
        if example.answers:
            yield example


def normalized(text: str) -> str:
    """`text` as the official SQuAD script compares it: lower case, without punctuation and articles."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def words(text: str) -> list[str]:
    """The words of `text`, case folded: runs of letters, digits and underscores."""
    return _WORD.findall(text.casefold())


def _bm25s() -> Any:
    """The package, without JAX: it would start that where it is installed, and JAX takes most of a GPU's memory."""
    hidden = "jax" not in sys.modules
    if hidden:
        sys.modules["jax"] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        return packages.needed("bm25s", "--negatives")
    finally:
        if hidden:
            del sys.modules["jax"]


class Index:
    """Which documents share most with a question, word by word: BM25, by bm25s.

    S. Robertson, H. Zaragoza: The Probabilistic Relevance Framework: BM25 and Beyond (2009), with k1 = 1.2, b = 0.75
    and Lucene's inverse document frequency log(1 + (N - n + 0.5) / (n + 0.5)), which is never negative. The constant
    factor k1 + 1 is left out, as in Lucene: it changes no order.

    Memory: 8 bytes for each word while the index is built; then 12 for each distinct word of each document.
    """

    def __init__(self, documents: Iterable[str]) -> None:
        self._vocabulary: dict[str, int] = {}
        tokens = [[self._vocabulary.setdefault(word, len(self._vocabulary)) for word in words(d)] for d in documents]
        self._distinct = [np.unique(np.array(document, dtype=np.int32)) for document in tokens]
        self._bm25 = _bm25s().BM25(k1=1.2, b=0.75, method="lucene")
        if self._vocabulary:
            self._bm25.index((tokens, self._vocabulary), create_empty_token=False, show_progress=False)

    def scores(self, question: str) -> NDArray[np.float32]:
        """The BM25 score of each document for `question`, (documents,); each distinct word counts once."""
        known = [self._vocabulary[word] for word in dict.fromkeys(words(question)) if word in self._vocabulary]
        if not known:
            return np.zeros(len(self._distinct), dtype=np.float32)
        scores: NDArray[np.float32] = self._bm25.get_scores(known)
        return scores

    def similarity(self, a: int, b: int) -> float:
        """The share of the distinct words of two documents that both have (Jaccard, 0 to 1)."""
        first, second = self._distinct[a], self._distinct[b]
        common = len(np.intersect1d(first, second, assume_unique=True))
        union = len(first) + len(second) - common
        return common / union if union else 1.0


class _Search:
    """Finds the wrong paragraph for a question."""

    def __init__(self, examples: ExampleSet) -> None:
        self._examples = examples
        self._numbers = np.array([number for number, _ in examples.paragraphs()], dtype=np.int64)
        self._index = Index(context for _, context in examples.paragraphs())
        self._forms = lru_cache(_CACHED_PARAGRAPHS)(self._read_forms)

    def paragraph_for(self, example: Example) -> int | None:
        """The running index of the best paragraph for an answerable question, or None if none will do."""
        own = int(np.searchsorted(self._numbers, example.paragraph))
        answers = {answer.text.lower() for answer in example.answers}
        plain = {form for answer in example.answers if (form := normalized(answer.text))}
        for candidate in _descending(self._index.scores(example.question)):
            if candidate == own or self._holds(candidate, answers, plain):
                continue
            if self._index.similarity(candidate, own) < NEAR_DUPLICATE:
                return int(self._numbers[candidate])
        return None

    def _holds(self, candidate: int, answers: set[str], plain: set[str]) -> bool:
        lower, normal = self._forms(candidate)
        return any(answer in lower for answer in answers) or any(f" {form} " in normal for form in plain)

    def _read_forms(self, candidate: int) -> tuple[str, str]:
        """A paragraph in lower case, and normalized between two spaces."""
        context = self._examples.context(int(self._numbers[candidate]))
        return context.lower(), f" {normalized(context)} "


def _descending(scores: NDArray[np.float32]) -> Iterator[int]:
    """The documents with a score above 0, best first, equal ones in order; ranks a few before the rest."""
    first = min(_FIRST_CANDIDATES, len(scores))
    limit = np.partition(scores, len(scores) - first)[len(scores) - first]
    best = np.flatnonzero(scores >= max(limit, np.nextafter(0, 1)))
    yield from best[np.argsort(-scores[best], kind="stable")].tolist()
    rest = np.flatnonzero((scores < limit) & (scores > 0))
    yield from rest[np.argsort(-scores[rest], kind="stable")].tolist()
