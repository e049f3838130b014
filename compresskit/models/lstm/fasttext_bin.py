"""fastText's own format, `.bin` (version 12, fastText 0.1.0 and later): words, and the subwords that make up others.

A word's vector is the mean of its own row and those of its character n-grams; a word that the file lacks has the mean
of its n-grams (Bojanowski et al. 2017, arXiv 1607.04606). Only the rows in use are read.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import InputError
from compresskit.models.lstm.vectors import Selection, Vectors

MAGIC, VERSION = struct.pack("<i", 793712314), 12
# magic, version
HEAD = struct.Struct("<2i")
# dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate; t
ARGUMENTS = struct.Struct("<12id")
# entries, words, labels; tokens, pruned entries
DICTIONARY = struct.Struct("<3i2q")
WORDS = HEAD.size + ARGUMENTS.size + DICTIONARY.size
# count, kind; they follow the text and a 0
ENTRY, WORD = struct.Struct("<qb"), 0
# quantized, rows, columns; the numbers follow
MATRIX = struct.Struct("<?2q")
# The end of a sentence, which fastText keeps as a word without subwords.
END = "</s>"
FNV_BASIS, FNV_PRIME = 2166136261, 16777619
_AGAIN = "copy or download it again"


@dataclass(frozen=True, slots=True)
class Subwords:
    """The n-grams of a model: of `shortest` to `longest` characters, hashed into `buckets` rows after its `words`."""

    words: int
    buckets: int
    shortest: int
    longest: int

    def rows(self, word: str) -> list[int]:
        """The matrix rows of the n-grams of `<word>`; a bracket alone is none."""
        text = f"<{word}>"
        letters = [letter.encode() for letter in text] if self.buckets > 0 else []
        found = []
        for begin in range(len(letters)):
            value = FNV_BASIS
            for length, letter in enumerate(itertools.islice(letters, begin, begin + self.longest), start=1):
                for byte in letter:
                    # Bytes are signed to fastText: those above 127 set all higher bits.
                    value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * FNV_PRIME) & 0xFFFFFFFF
                alone = length == 1 and (begin == 0 or begin == len(letters) - 1)
                if length >= self.shortest and not alone:
                    found.append(self.words + value % self.buckets)
        return found


def starts_binary(start: bytes) -> bool:
    """Whether these are the first bytes of such a file."""
    return start[:4] == MAGIC


def is_binary(path: Path) -> bool:
    """Whether a file is of this format."""
    with path.open("rb") as file:
        return starts_binary(file.read(4))


def read(path: Path, selection: Selection, dimension: int | None) -> Vectors:
    """The vectors of the words that `selection` takes; those that it wants and the file lacks, of their subwords.

    Raises InputError for another version, a quantized model, a truncated or damaged file, and another `dimension` than
    asked for.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            subwords, matrix = _parts(path, data, dimension)
        except struct.error as error:
            raise InputError(f"{path} is truncated; {_AGAIN}") from error
        for row, word in enumerate(_words(data)):
            if word is not None:
                selection.count(word)
                if forms := selection.forms(word):
                    parts = [] if word == END else subwords.rows(word)
                    selection.take(word, forms, matrix.mean(file, [row, *parts]))
        lacking = {word: subwords.rows(word) for word in sorted(selection.wanted - selection.rows.keys())}
        composed = {word: parts for word, parts in lacking.items() if parts}
        for word, parts in composed.items():
            selection.take(word, [word], matrix.mean(file, parts))
    found = selection.vectors(path, matrix.columns, composed=len(composed))
    if not np.isfinite(found.matrix).all():
        raise InputError(f"{path} holds numbers that are not finite; {_AGAIN}")
    return found


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Rows of fp32 in a file, from `begin` on; read one by one, since a map of them would fill the memory."""

    begin: int
    columns: int

    def mean(self, file: BinaryIO, rows: Sequence[int]) -> NDArray[np.float32]:
        """The mean of these rows, (columns,)."""
        size = 4 * self.columns
        found = b"".join(os.pread(file.fileno(), size, self.begin + row * size) for row in rows)
        mean: NDArray[np.float32] = np.frombuffer(found, np.float32).reshape(-1, self.columns).mean(axis=0)
        return mean


def _parts(path: Path, data: mmap.mmap, wanted: int | None) -> tuple[Subwords, _Matrix]:
    """The n-grams' settings and the matrix, both checked."""
    _, version = HEAD.unpack_from(data)
    if version != VERSION:
        raise InputError(f"{path} has version {version} of fastText's format, not {VERSION}; give its .vec")
    dimension, *_, buckets, shortest, longest, _, _ = ARGUMENTS.unpack_from(data, HEAD.size)
    if dimension < 1 or min(buckets, shortest, longest) < 0:
        raise InputError(f"{path} is damaged: its settings are not a model's; {_AGAIN}")
    if wanted is not None and wanted != dimension:
        raise InputError(
            f"{path} has vectors of {dimension} numbers, not {wanted}; leave --embedding-dim out, or give {dimension}"
        )
    _, count, _, _, pruned = DICTIONARY.unpack_from(data, HEAD.size + ARGUMENTS.size)
    words, end = 0, WORDS
    for _, kind, following in _entries(data):
        words, end = words + (kind == WORD), following
    if words != count:
        raise InputError(f"{path} is damaged: it holds {words:,} of {count:,} words; {_AGAIN}")
    quantized, rows, columns = MATRIX.unpack_from(data, end)
    if quantized or pruned > 0:
        raise InputError(f"{path} is a quantized fastText model; give the .bin that it was made from, or its .vec")
    if rows != words + buckets or columns != dimension:
        raise InputError(f"{path} is damaged: its matrix is not that of its words; {_AGAIN}")
    begin = end + MATRIX.size
    if len(data) < begin + 4 * rows * columns:
        raise InputError(f"{path} is truncated; {_AGAIN}")
    return Subwords(words, buckets, shortest, longest), _Matrix(begin, columns)


def _entries(data: mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """Text and kind of each entry of the dictionary, and where it ends; struct.error where the file is cut off."""
    at = WORDS
    for _ in range(DICTIONARY.unpack_from(data, HEAD.size + ARGUMENTS.size)[0]):
        end = data.find(b"\0", at)
        if end < 0:
            raise struct.error("an entry has no end")
        _, kind = ENTRY.unpack_from(data, end + 1)
        text, at = data[at:end], end + 1 + ENTRY.size
        yield text, kind, at


def _words(data: mmap.mmap) -> Iterator[str | None]:
    """The words in the order of the matrix's rows, None for one that is not UTF-8."""
    for text, kind, _ in _entries(data):
        if kind == WORD:
            try:
                yield text.decode()
            except UnicodeDecodeError:
                yield None
