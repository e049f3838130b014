"""Whether an answer is the gold one: the rules of the official SQuAD 2.0 script (`evaluate-v2.0.py`).

For other languages than English there are those of MLQA's script, by which texts are made comparable.
"""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable

from compresskit.data import mlqa
from compresskit.errors import UsageError

Normalize = Callable[[str], str]

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and articles, white space made single blanks.

    >>> normalize_answer("The  U.S. Army, a force")
    'us army force'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def normalizer(name: str) -> Normalize:
    """What makes texts comparable by its name: `squad`, or `mlqa:` and a language. Raises UsageError for another."""
    scheme, _, language = name.partition(":")
    if name == "squad":
        return normalize_answer
    if scheme == "mlqa" and language in mlqa.ARTICLES:
        return functools.partial(mlqa.normalize_answer, language=language)
    known = ", ".join(f"mlqa:{one}" for one in mlqa.ARTICLES)
    raise UsageError(f"--normalize {name} is not one of squad, {known}")


class Golds:
    """The gold answers of one question, normalized once for every answer that is scored against them."""

    def __init__(self, texts: Iterable[str], normalize: Normalize = normalize_answer) -> None:
        self._normalize = normalize
        # An answer of which nothing is left ("The") is dropped; with none left, "no answer" is the right one.
        kept = dict.fromkeys(normal for text in texts if (normal := normalize(text)))
        self._golds = [(normal, normal.split()) for normal in kept] or [("", [])]
        self._last: tuple[str, tuple[int, float]] | None = None

    def score(self, predicted: str) -> tuple[int, float]:
        """EM (0 or 1) and F1 (0-1) of `predicted` against the gold answer that suits it best."""
        if self._last is None or self._last[0] != predicted:
            normal = self._normalize(predicted)
            tokens = normal.split()
            em = max(int(gold == normal) for gold, _ in self._golds)
            f1 = max(_f1(gold, tokens) for _, gold in self._golds)
            self._last = (predicted, (em, f1))
        return self._last[1]


def _f1(gold: list[str], predicted: list[str]) -> int | float:
    """F1 as the official script does, an int where nothing overlaps or there is nothing to overlap."""
    if not gold or not predicted:
        return int(gold == predicted)
    same = sum((Counter(gold) & Counter(predicted)).values())
    if same == 0:
        return 0
    precision, recall = same / len(predicted), same / len(gold)
    return (2 * precision * recall) / (precision + recall)
