"""Word vectors of a vocabulary, and which words of a file they are taken from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compresskit.text import counted

# How many malformed lines are named.
NAMED = 10
# Above this share of capitalized words a file counts as cased; a lower-case file has a few by mistake.
CASED = 0.05


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of the words that were asked for.

    `rows` maps a word, in the vocabulary's own case, to its row of `matrix`, fp32 of shape (words, dimension). Of the
    file's `lines` (of a .bin: words), `malformed` were skipped, the first at `malformed_lines` (counted from 1).
    `other_case` words have the vector of another casing, `composed` ones that of their subwords; `capitalized` is the
    fraction of the file's words with a capital letter. Where a header tells how many vectors a file has, `counted` is
    how many it holds, `expected` how many it should.
    """

    path: Path
    rows: Mapping[str, int]
    matrix: NDArray[np.float32]
    lines: int
    malformed: int
    malformed_lines: tuple[int, ...]
    other_case: int
    composed: int
    capitalized: float
    counted: int | None = None
    expected: int | None = None

    @property
    def dimension(self) -> int:
        """Numbers of one vector."""
        return int(self.matrix.shape[1])

    def notices(self, needed: Collection[str], lowercase: bool) -> list[str]:
        """What the user should know: coverage of the words `needed`, malformed lines, another casing."""
        covered = sum(word in self.rows for word in needed)
        lines = [
            f"{self.path}: {covered:,} of the {len(needed):,} words of the training data have a vector of "
            f"{self.dimension} numbers ({100 * covered / max(len(needed), 1):.1f} %), the others start random; "
            f"{len(self.rows) - covered:,} more words of the file are known"
        ]
        if self.composed:
            lines.append(f"{self.path}: {self.composed:,} of these words it lacks; their vectors are of their subwords")
        if self.malformed:
            named = ", ".join(map(str, self.malformed_lines)) + (", ..." if self.malformed > NAMED else "")
            lines.append(f"{self.path}: {counted(self.malformed, 'malformed line')} skipped: {named}")
        if self.counted != self.expected:
            lines.append(
                f"{self.path} holds {self.counted:,} vectors, its header says {self.expected:,}; copy it again if it "
                "should hold them all"
            )
        if lowercase and self.capitalized > CASED:
            lines.append(
                f"{self.path} tells capitals from small letters, the vocabulary does not: {self.other_case:,} words "
                "took the vector of a capitalized form; --cased keeps both"
            )
        if not lowercase and self.capitalized == 0:
            lines.append(
                f"{self.path} is in lower case, the vocabulary is not: {self.other_case:,} words took the vector of "
                "their lower-case form; leave --cased out for this file"
            )
        elif not lowercase and self.other_case:
            lines.append(f"{self.path}: {self.other_case:,} words took the vector of their lower-case form")
        return lines


@dataclass(slots=True)
class Selection:
    """Which words of a file are taken, told word by word, and the vectors taken so far.

    Taken are the words `wanted`, and the first `extra` others. A word's exact form in the file wins; else, with
    `lowercase`, the first form with capitals serves the lower-case word, and without it the lower-case form serves a
    capitalized word. The first of equal words wins.
    """

    wanted: frozenset[str]
    extra: int
    lowercase: bool
    rows: dict[str, int] = field(default_factory=dict)
    values: list[NDArray[np.float32]] = field(default_factory=list)
    inexact: set[str] = field(default_factory=set)
    words: int = 0
    capitalized: int = 0
    # The capitalized words that a lower-case form of the file may serve.
    served: dict[str, list[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lowercase:
            for word in self.wanted:
                if word != word.lower():
                    self.served.setdefault(word.lower(), []).append(word)

    def forms(self, word: str) -> list[str]:
        """The words of the vocabulary that a word of the file serves: those that none before has served as well.

        Words with spaces or brackets (`. . .`, `[UNK]`) are not tokens of a text, so they are not taken beyond those
        wanted.
        """
        key = word.lower() if self.lowercase else word
        forms = []
        if key not in self.rows:
            token = len(key.split()) == 1 and (key == "[" or not key.startswith("["))
            forms = [key] if key in self.wanted or (self.extra > 0 and token) else []
        elif key == word and key in self.inexact:
            forms = [key]
        return forms + [form for form in self.served.get(word, ()) if form not in self.rows]

    def count(self, word: str) -> None:
        """Note that the file has this word."""
        self.words += 1
        self.capitalized += word != word.lower()

    def take(self, word: str, forms: Sequence[str], vector: NDArray[np.float32]) -> None:
        """Give the vector (dimension,) of the file's `word` to the `forms` that it serves."""
        for form in forms:
            self.extra -= form not in self.wanted and form not in self.rows
            if form in self.rows:  # an exact form in the place of another casing
                self.values[self.rows[form]] = vector
                self.inexact.discard(form)
                continue
            self.rows[form] = len(self.values)
            self.values.append(vector)
            if form != word:
                self.inexact.add(form)

    def vectors(
        self, path: Path, dimension: int, *, malformed: int = 0, malformed_lines: Sequence[int] = (), composed: int = 0
    ) -> Vectors:
        """All that was taken."""
        matrix = np.stack(self.values) if self.values else np.zeros((0, dimension), np.float32)
        lines, share = self.words + malformed, self.capitalized / max(self.words, 1)
        other = len(self.inexact)
        return Vectors(path, self.rows, matrix, lines, malformed, tuple(malformed_lines), other, composed, share)
