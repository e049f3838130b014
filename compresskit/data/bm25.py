"""BM25 over the paragraphs of a data set: which of them share most with a question, word by word.

S. Robertson, H. Zaragoza: The Probabilistic Relevance Framework: BM25 and Beyond (2009), with k1 = 1.2,
b = 0.75 and the inverse document frequency log(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of `text`, case folded: runs of letters, digits and underscores."""
    return _WORD.findall(text.casefold())


class Index:
    """An inverted index. Memory: 12 bytes for each pair of a document and a distinct word in it."""

    def __init__(self, documents: Iterable[str]) -> None:
        vocabulary: dict[str, int] = {}
        terms, counts, bounds, lengths = array("i"), array("i"), array("q", [0]), array("i")
        for document in documents:
            found = Counter(words(document))
            terms.extend([vocabulary.setdefault(word, len(vocabulary)) for word in found])
            counts.extend(found.values())
            bounds.append(len(terms))
            lengths.append(found.total())
        self._vocabulary = vocabulary
        self._terms = np.frombuffer(terms, dtype=np.int32)
        self._bounds = np.frombuffer(bounds, dtype=np.int64)
        self.documents = len(lengths)
        self._post(np.frombuffer(counts, dtype=np.int32), np.frombuffer(lengths, dtype=np.int32))

    def _post(self, counts: NDArray[np.int32], lengths: NDArray[np.int32]) -> None:
        """Sort what was counted by word, and weigh it."""
        owner = np.repeat(np.arange(self.documents, dtype=np.int32), np.diff(self._bounds))
        relative = lengths / max(1.0, float(lengths.mean())) if self.documents else lengths
        saturation = K1 * (1 - B + B * np.asarray(relative, dtype=np.float32))
        frequency = np.bincount(self._terms, minlength=len(self._vocabulary))
        idf = np.log1p((self.documents - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        weights = idf[self._terms] * counts * np.float32(K1 + 1) / (counts + saturation[owner])
        order = np.argsort(self._terms, kind="stable")
        self._posted = owner[order]
        self._weights = weights[order].astype(np.float32)
        self._posts = np.concatenate([[0], np.cumsum(frequency)])

    def scores(self, query: str) -> NDArray[np.float64]:
        """The BM25 score of each document for `query`, (documents,); each distinct word counts once."""
        scores = np.zeros(self.documents)
        for word in dict.fromkeys(words(query)):
            term = self._vocabulary.get(word)
            if term is not None:
                posts = slice(self._posts[term], self._posts[term + 1])
                scores[self._posted[posts]] += self._weights[posts]
        return scores

    def similarity(self, a: int, b: int) -> float:
        """The share of the distinct words of two documents that both have (Jaccard, 0 to 1)."""
        first, second = (self._terms[self._bounds[i] : self._bounds[i + 1]] for i in (a, b))
        common = len(np.intersect1d(first, second, assume_unique=True))
        union = len(first) + len(second) - common
        return common / union if union else 1.0
