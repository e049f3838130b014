"""Word vectors from text files: GloVe's format, and fastText's and word2vec's `.vec`, plain or gzip."""

from __future__ import annotations

import gzip
import io
import itertools
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import InputError

BUFFER = 1 << 20
GZIP_MAGIC, FASTTEXT_BIN_MAGIC = b"\x1f\x8b", b"\xba\x16\x4f\x2f"
# How many malformed lines are named, and among how many first ones more than half malformed mean another kind of file.
NAMED, PROBED = 10, 100
# Above this share of capitalized words a file counts as cased; a lower-case file has a few by mistake.
CASED = 0.05


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of the words that were asked for.

    `rows` maps a word, in the vocabulary's own case, to its row of `matrix`, fp32 of shape (words, dimension). Of the
    file's `lines`, `malformed` were skipped, the first at `malformed_lines` (counted from 1). `other_case` words have
    the vector of another casing; `capitalized` is the fraction of the file's words with a capital letter.
    """

    path: Path
    rows: Mapping[str, int]
    matrix: NDArray[np.float32]
    lines: int
    malformed: int
    malformed_lines: tuple[int, ...]
    other_case: int
    capitalized: float

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
        if self.malformed:
            named = ", ".join(map(str, self.malformed_lines)) + (", ..." if self.malformed > NAMED else "")
            lines.append(f"{self.path}: {self.malformed:,} malformed line(s) skipped: {named}")
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
class _Taken:
    """Rows found so far: exact ones, and those of words that only another casing has, which an exact one replaces."""

    dimension: int
    rows: dict[str, int] = field(default_factory=dict)
    inexact: set[str] = field(default_factory=set)
    values: list[NDArray[np.float32]] = field(default_factory=list)

    def take(self, word: str, vector: NDArray[np.float32], exact: bool) -> None:
        if word in self.rows:
            self.values[self.rows[word]] = vector
            self.inexact.discard(word)
            return
        self.rows[word] = len(self.values)
        self.values.append(vector)
        if not exact:
            self.inexact.add(word)


def read_vectors(
    path: Path, needed: Collection[str], *, extra: int = 0, lowercase: bool, dimension: int | None = None
) -> Vectors:
    """Read the vectors of the words `needed`, and of the first `extra` other words of the file, in one pass.

    Memory is bounded by the words that are taken. A word's exact form in the file wins; else, with `lowercase`, the
    first form with capitals serves the lower-case word, and without it the lower-case form serves a capitalized word.
    The first of equal words wins. Raises InputError for a file that is not there, is damaged, holds no vectors or fewer
    than its header says, or has another dimension than its header or `dimension` says.
    """
    wanted = frozenset(needed)
    # The capitalized words that a lower-case form of the file may serve.
    served: dict[str, list[str]] = {}
    if not lowercase:
        for word in wanted:
            if word != word.lower():
                served.setdefault(word.lower(), []).append(word)
    taken: _Taken | None = None
    bad: list[int] = []
    malformed = lines = capitalized = 0
    with _opened(path) as file:
        header = _header(file)
        for number, line in enumerate(file, start=1 if header is None else 2):
            lines += 1
            if taken is None:
                taken = _Taken(_dimension(path, line, header, dimension))
            word, numbers = _split(line, taken.dimension)
            forms = _forms(word, wanted, served, taken, extra, lowercase) if word else []
            vector = _parsed(numbers, taken.dimension) if forms else None
            if not word or (forms and vector is None):
                malformed += 1
                bad += [number] if malformed <= NAMED else []
                if lines == PROBED and 2 * malformed > PROBED:
                    raise InputError(f"{path}: {malformed} of its first {PROBED} lines hold no vector; {_MEND}")
                continue
            capitalized += word != word.lower()
            for form in forms:
                assert vector is not None
                extra -= form not in wanted and form not in taken.rows
                taken.take(form, vector, exact=form == word)
    if taken is None or 2 * malformed > lines:
        raise InputError(f"{path} holds no vectors; {_MEND}")
    if header is not None and lines < header[0]:
        raise InputError(f"{path} holds {lines:,} of the {header[0]:,} vectors of its header; copy it again")
    matrix = np.stack(taken.values) if taken.values else np.zeros((0, taken.dimension), np.float32)
    share = capitalized / (lines - malformed)
    return Vectors(path, taken.rows, matrix, lines, malformed, tuple(bad), len(taken.inexact), share)


_MEND = "give GloVe's text format or fastText's .vec, plain or .gz (of fastText's .bin, its .vec)"


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's plain bytes, with a buffer large enough for lines to be cut in C; InputError where it is damaged."""
    if not path.is_file():
        raise InputError(f"there is no vector file {path}; check --embeddings")
    with path.open("rb", buffering=0) as raw, io.BufferedReader(raw, BUFFER) as file:
        start = file.peek(4)[:4]
        if start == FASTTEXT_BIN_MAGIC:
            raise InputError(f"{path} is a fastText .bin; {_MEND}")
        if start[:2] != GZIP_MAGIC:
            yield file
            return
        try:
            # GzipFile cuts lines in Python; a reader above it does so in C.
            yield io.BufferedReader(gzip.GzipFile(fileobj=file), BUFFER)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path} is truncated or damaged ({error}); copy or download it again") from error


def _header(file: IO[bytes]) -> tuple[int, int] | None:
    """Count and dimension, where the first line is nothing but these two, which is then passed over."""
    first = cast("io.BufferedReader", file).peek(64).split(b"\n", 1)[0].split()
    if len(first) != 2 or not all(part.isdigit() for part in first):
        return None
    file.readline()
    return int(first[0]), int(first[1])


def _dimension(path: Path, line: bytes, header: tuple[int, int] | None, wanted: int | None) -> int:
    """The file's dimension, by its first line; InputError where its header or `wanted` say another."""
    found = _trailing_numbers(line)
    if found < 2:
        raise InputError(f"{path} holds no vectors: its first line has no numbers; {_MEND}")
    if header is not None and header[1] != found:
        raise InputError(
            f"{path}: its header says {header[1]} numbers a vector, its first one has {found}; copy it again"
        )
    if wanted is not None and wanted != found:
        raise InputError(
            f"{path} has vectors of {found} numbers, not {wanted}; leave --embedding-dim out, or give {found}"
        )
    return found


def _trailing_numbers(line: bytes) -> int:
    """How many fields at the end of a line are numbers; the first field is always a word."""
    fields = line.split()[1:]
    return sum(1 for _ in itertools.takewhile(_is_number, reversed(fields)))


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split(line: bytes, dimension: int) -> tuple[str, bytes]:
    """The word (which may hold spaces) and the bytes of its numbers; no word where the line is malformed."""
    line = line.replace(b"\t", b" ").strip(b" \r\n")
    spaces = line.count(b" ")
    if spaces < dimension:
        return "", b""
    if spaces == dimension:
        word, _, numbers = line.partition(b" ")
    else:
        parts = line.split()
        word, numbers = b" ".join(parts[:-dimension]), b" ".join(parts[-dimension:])
        # A number in front of the numbers is one too many; a word such as `. . .` is none.
        if len(parts) <= dimension or (len(parts) - dimension > 1 and _is_number(parts[-dimension - 1])):
            return "", b""
    try:
        return word.decode(), numbers
    except UnicodeDecodeError:
        return "", b""


def _parsed(numbers: bytes, dimension: int) -> NDArray[np.float32] | None:
    """The numbers, fp32 of shape (dimension,); None where one is not a finite number."""
    try:
        vector = np.array([float(number) for number in numbers.split()], np.float32)
    except ValueError:
        return None
    return vector if len(vector) == dimension and np.isfinite(vector).all() else None


def _forms(
    word: str,
    wanted: frozenset[str],
    served: Mapping[str, Sequence[str]],
    taken: _Taken,
    extra: int,
    lowercase: bool,
) -> list[str]:
    """The words of the vocabulary that a line's word serves: those that no line before has served as well.

    Words with spaces or brackets (`. . .`, `[UNK]`) are no tokens of a text, so they are not taken beyond those wanted.
    """
    key = word.lower() if lowercase else word
    forms = []
    if key not in taken.rows:
        token = len(key.split()) == 1 and (key == "[" or not key.startswith("["))
        forms = [key] if key in wanted or (extra > 0 and token) else []
    elif key == word and key in taken.inexact:
        forms = [key]
    return forms + [form for form in served.get(word, ()) if form not in taken.rows]
