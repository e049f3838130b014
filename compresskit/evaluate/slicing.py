"""Which slice each question of a data set is in, by every key: its question word, its lengths, a column of the data.

- `question`: the first of the words below that stands in the question, wherever it does; "whom" and "whose" count as
  who, "how many" and "how much" as how many, a question without any of them as other.
- `answerable`: yes where it has a gold answer, no where it has none.
- `answer_length`: words of the shortest gold answer; none for a question that has no answer.
- `context_length`: words of the paragraph.
- `windows`: how many windows the model read for the question.

Words stand between white space; each character of Chinese or Japanese is a word.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.data.examples import Example, ExampleSet
from compresskit.errors import UsageError
from compresskit.evaluate.slice import STANDARD, SliceName

TITLE, NONE = "title", "none"
MOST_VALUES = 500
"""Slices of one key. Above that it tells questions apart, not kinds of them."""

_ASKING = re.compile(r"\b(?:(how\s+(?:many|much))|(who|whom|whose)|(what|when|where|why|which|how))\b")
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\s\u3040-\u30ff\u3400-\u9fff]+")
_QUESTION = ("who", "what", "when", "where", "why", "which", "how", "how many", "other")
_BINS: Mapping[str, Sequence[int]] = {
    "answer_length": (1, 2, 3, 6, 11),
    "context_length": (1, 51, 101, 151, 201, 401),
    "windows": (1, 2, 3, 5, 9),
}
"""The least number of each slice of a length."""


@dataclass(frozen=True, slots=True)
class Division:
    """Questions divided by one key: `number[i]` is the place of question i's slice among `values`, shape (questions,).

    Each of `values` has a question.
    """

    values: tuple[str, ...]
    number: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Sequence[str], order: Sequence[str] = ()) -> Division:
        """The division by the label of each question; the slices stand as in `order`, else numbers before texts."""
        known = {value: place for place, value in enumerate(order)}
        values = sorted(set(labels), key=lambda each: (known.get(each, len(order)), *_rank(each)))
        numbers = {value: number for number, value in enumerate(values)}
        return cls(tuple(values), np.array([numbers[label] for label in labels], dtype=np.int64))

    @classmethod
    def of_lengths(cls, key: str, lengths: Sequence[int]) -> Division:
        """The division by a number of each question; 0 is none."""
        least = _BINS[key]
        pairs = itertools.pairwise(least)
        names = [str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in pairs] + [f"{least[-1]}+"]
        names = [NONE, *names]
        return cls.of([names[each] for each in np.searchsorted(least, lengths, side="right")], names)


def _rank(label: str) -> tuple[float, str]:
    """By what labels are sorted: numbers by their size, and texts behind them."""
    try:
        number = float(label)
    except ValueError:
        number = math.inf
    return (number if math.isfinite(number) else math.inf), label


def question_word(question: str) -> str:
    """The word by which a question asks, one of those above.

    >>> question_word("In what year was it built?")
    'what'
    """
    found = _ASKING.search(question.lower())
    if found is None:
        return "other"
    return "how many" if found[1] else "who" if found[2] else found[3]


def words(text: str) -> int:
    """How many words a text has."""
    return len(text.split()) if text.isascii() else len(_WORD.findall(text))


def kept_keys(names: Iterable[SliceName]) -> tuple[str, ...]:
    """The keys among `names` that only the data can tell of, each once."""
    return tuple(dict.fromkeys(name.key for name in names if name.key not in (*STANDARD, TITLE)))


def divided(examples: ExampleSet, names: Sequence[SliceName] = ()) -> dict[str, Division]:
    """`examples` divided by every standard key but the windows, and by the keys of `names`.

    The data were loaded with `keep=kept_keys(names)`. Raises UsageError where a key or a value of `names` is none of
    any question, or a key has too many values.
    """
    asking, answers, lengths, titles = [], [], [], []
    of_paragraph: dict[int, int] = {}
    for example in examples:
        asking.append(question_word(example.question))
        answers.append(_shortest(example))
        if example.paragraph not in of_paragraph:
            of_paragraph[example.paragraph] = words(example.context)
        lengths.append(of_paragraph[example.paragraph])
        titles.append(example.title)
    found = {
        "question": Division.of(asking, _QUESTION),
        "answerable": Division.of(["yes" if length else "no" for length in answers], ("yes", "no")),
        "answer_length": Division.of_lengths("answer_length", answers),
        "context_length": Division.of_lengths("context_length", lengths),
    }
    columns = dict(zip(kept_keys(names), _columns(examples, names), strict=True))
    if any(name.key == TITLE for name in names):
        columns[TITLE] = [title or None for title in titles]
    found |= {key: _by_column(key, values, names) for key, values in columns.items()}
    for name in names:
        _check_value(name, found)
    return found


def _shortest(example: Example) -> int:
    """Words of the shortest gold answer, 1 at least; 0 where there is no answer."""
    return min((max(1, words(answer.text)) for answer in example.answers), default=0)


def _columns(examples: ExampleSet, names: Sequence[SliceName]) -> list[list[str | None]]:
    """The values of each of the kept keys, question by question."""
    kept = examples.kept() if kept_keys(names) else []
    return [[row[at] if at < len(row) else None for row in kept] for at in range(len(kept_keys(names)))]


def _by_column(key: str, values: Sequence[str | None], names: Sequence[SliceName]) -> Division:
    asker = next(name.asker for name in names if name.key == key)
    if all(value is None for value in values):
        raise UsageError(
            f"{asker}: no question has a key {key!r}; take {', '.join((*STANDARD, TITLE))}, or a column of the data"
        )
    division = Division.of([NONE if value is None else value for value in values])
    if len(division.values) > MOST_VALUES:
        raise UsageError(
            f"{asker}: {key!r} has {len(division.values):,} values, more than {MOST_VALUES}; take a key of fewer"
        )
    return division


def _check_value(name: SliceName, found: Mapping[str, Division]) -> None:
    """UsageError where no question is in a slice; how many windows there are only the model tells."""
    if name.value is None or name.key not in found or name.value in found[name.key].values:
        return
    values = found[name.key].values
    told = ", ".join(values[:20]) + (", …" if len(values) > 20 else "")
    raise UsageError(f"{name.asker}: no question has {name.key}={name.value}; the values are {told}")
