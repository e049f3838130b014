"""Files of word vectors: GloVe's text format and fastText's `.vec`, plain or packed, and fastText's `.bin`."""

from __future__ import annotations

import codecs
import collections
import functools
import io
import itertools
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit.checkpoint.reading import opened
from compresskit.checkpoint.unpacking import Damaged, check_text, unpacked
from compresskit.errors import InputError
from compresskit.models.lstm import fasttext_bin
from compresskit.models.lstm.vectors import NAMED, Selection, Vectors

BUFFER = 1 << 20
# Among how many first lines more than half malformed mean another kind of file, and how many tell the dimension.
PROBED, FIRST = 100, 20
_MOST_FILES = 20
# Of a count in a header. Python reads no number of more than 4,300.
_DIGITS = 18
_MEND = "give GloVe's text format or fastText's .vec, plain or packed, or fastText's .bin"


def read_vectors(
    path: Path, needed: Collection[str], *, extra: int = 0, lowercase: bool, dimension: int | None = None
) -> Vectors:
    """Read the vectors of the words `needed`, and of the first `extra` other words of the file, in one pass.

    `Selection` says which form of a word counts. Memory is bounded by the words that are taken. Of a fastText .bin, the
    words needed that it lacks are composed of its subwords. Of a zip with several files, as GloVe's are, it is the one
    whose vectors have `dimension` numbers. Raises InputError for a file that is not there, is damaged, holds no
    vectors, or another dimension than its header or `dimension` says.
    """
    if not path.exists():
        raise InputError(f"there is no vector file {path}; check --embeddings")
    with opened(path):
        pass
    selection = Selection(frozenset(needed), extra, lowercase)
    if fasttext_bin.is_binary(path):
        return fasttext_bin.read(path, selection, dimension)
    return _read_text(path, selection, dimension)


def _read_text(path: Path, selection: Selection, wanted_dimension: int | None) -> Vectors:
    bad: list[int] = []
    malformed = lines = blank = 0
    with _opened(path, wanted_dimension) as file:
        header = _header(file)
        dimension = _dimension(path, file, header, wanted_dimension)
        for number, line in enumerate(_lines(path, file), start=1 if header is None else 2):
            lines += 1
            word, numbers = _split(line, dimension)
            forms = selection.forms(word) if word else []
            vector = _parsed(numbers, dimension) if forms else None
            if not word or (forms and vector is None):
                malformed += 1
                blank += line.isspace()
                bad += [number] if malformed <= NAMED else []
                if lines == PROBED and 2 * malformed > PROBED:
                    raise InputError(f"{path}: {malformed} of its first {PROBED} lines hold no vector; {_MEND}")
                continue
            selection.count(word)
            if vector is not None:
                selection.take(word, forms, vector)
    if 2 * malformed > lines:
        raise InputError(f"{path} holds no vectors; {_MEND}")
    found = selection.vectors(path, dimension, malformed=malformed, malformed_lines=bad)
    return found if header is None else replace(found, counted=lines - blank, expected=header[0])


@contextmanager
def _opened(path: Path, dimension: int | None) -> Iterator[io.BufferedReader[Any]]:
    """The file's plain bytes, with a buffer large enough for lines to be cut in C; InputError where it is damaged."""
    with path.open("rb", buffering=0) as raw, io.BufferedReader(raw, BUFFER) as stored:
        inner = unpacked(path, stored, functools.partial(_picked, dimension=dimension))
        file = stored if inner is None else io.BufferedReader(inner, BUFFER)
        try:
            start = file.peek(512)
            check_text(start, str(path))
            if inner is not None and fasttext_bin.starts_binary(start):
                raise InputError(f"{path} is a compressed fastText .bin, which is read in place; unzip it first")
            if start.startswith(codecs.BOM_UTF8):
                file.read(len(codecs.BOM_UTF8))
            yield file
        except (EOFError, Damaged) as error:
            raise InputError(f"{path} is truncated or damaged ({error}); copy or download it again") from error


def _picked(archive: zipfile.ZipFile, files: Sequence[zipfile.ZipInfo], dimension: int | None) -> zipfile.ZipInfo:
    """The file of a zip that holds text vectors of this dimension, or the only one of vectors where none is said."""
    found = {}
    for each in files[:_MOST_FILES]:
        with archive.open(each) as file:
            numbers = [_trailing_numbers(line) for line in file.read(BUFFER >> 4).split(b"\n")[1:3]]
        if numbers and max(numbers) > 1:
            found[each.filename] = (each, max(numbers))
    fitting = [each for each, count in found.values() if dimension in (None, count)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(f"{name} ({count})" for name, (_, count) in found.items())
    alike = bool(fitting) and len({count for _, count in found.values() if dimension in (None, count)}) == 1
    raise InputError(
        f"{archive.filename} holds {len(files)} files, by the numbers of a vector: {listed or 'none'}; "
        + ("unpack it, and give the one that you mean" if alike else "choose one with --embedding-dim")
    )


def _lines(path: Path, file: io.BufferedReader[Any]) -> Iterator[bytes]:
    """The lines of a file; InputError for one that is longer than any vector."""
    for line in iter(lambda: file.readline(BUFFER), b""):
        if len(line) == BUFFER:
            raise InputError(f"{path} has a line of more than {BUFFER:,} bytes, which no vector has; {_MEND}")
        yield line


def _header(file: io.BufferedReader[Any]) -> tuple[int, int] | None:
    """Count and dimension, where the first line is nothing but these two, which is then passed over."""
    first = file.peek(64).split(b"\n", 1)[0].split()
    if len(first) != 2 or not all(part.isdigit() and len(part) <= _DIGITS for part in first):
        return None
    file.readline(BUFFER)
    return int(first[0]), int(first[1])


def _dimension(path: Path, file: io.BufferedReader[Any], header: tuple[int, int] | None, wanted: int | None) -> int:
    """The dimension of most of the first lines; InputError where the header or `wanted` say another."""
    first = file.peek(BUFFER).split(b"\n")
    # The last one may be cut off.
    counts = collections.Counter(_trailing_numbers(line) for line in first[: max(len(first) - 1, 1)][:FIRST])
    found = counts.most_common(1)[0][0]
    if found < 2:
        raise InputError(f"{path} holds no vectors: most of its first lines have no numbers; {_MEND}")
    if header is not None and header[1] != found:
        raise InputError(f"{path}: its header says {header[1]} numbers a vector, most have {found}; copy it again")
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
