"""Vector files against a reader that keeps the whole file in memory."""

import bz2
import gzip
import lzma
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import zstandard

from compresskit.errors import InputError
from compresskit.models.lstm.vector_file import read_vectors
from compresskit.models.lstm.vectors import NAMED, Vectors

WORDS = ["the", "Paris", "paris", "Rome", "king", "at 5th", ". . .", "élan", "ROME", "[UNK]"]


def lines(words: list[str] = WORDS, size: int = 4) -> list[str]:
    numbers = np.random.default_rng(0).normal(size=(len(words), size)).round(4)
    return [" ".join([word, *map(str, row)]) for word, row in zip(words, numbers, strict=True)]


def write(path: Path, rows: list[str], *, header: bool = False, zipped: bool = False, end: str = "\n") -> Path:
    size = len(rows[0].split()) - 1
    text = "".join(row + end for row in ([f"{len(rows)} {size}"] if header else []) + rows).encode()
    path.write_bytes(gzip.compress(text, 1) if zipped else text)
    return path


def naive(rows: list[str], needed: Collection[str], extra: int, lowercase: bool, size: int) -> dict[str, list[float]]:
    """What the words should get: an exact form first, then the first other casing."""
    file: dict[str, list[float]] = {}
    for row in rows:
        parts = row.split()
        file.setdefault(" ".join(parts[:-size]), [float(part) for part in parts[-size:]])
    wanted = list(needed)
    for word in file:
        form = word.lower() if lowercase else word
        if form not in wanted and extra > 0 and " " not in form and form[0] != "[":
            wanted.append(form)
            extra -= 1
    found = {}
    for word in wanted:
        forms = [word, *(other for other in file if other.lower() == word)] if lowercase else [word, word.lower()]
        match = next((form for form in forms if form in file), None)
        if match is not None:
            found[word] = file[match]
    return found


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_the_formats(tmp_path: Path, header: bool, zipped: bool, end: str) -> None:
    path = write(tmp_path / "v", lines(), header=header, zipped=zipped, end=end)
    found = read_vectors(path, WORDS, lowercase=False)
    check(found, naive(lines(), WORDS, 0, False, 4))
    assert (found.lines, found.malformed, found.dimension, found.other_case) == (len(WORDS), 0, 4, 0)


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("extra", [0, 1, 2, 100])
@pytest.mark.parametrize("needed", [[], ["paris", "rome"], ["King", "Paris", "missing"], ["the"]])
def test_words_casings_and_further_words(tmp_path: Path, needed: list[str], extra: int, lowercase: bool) -> None:
    needed = [word.lower() for word in needed] if lowercase else needed
    path = write(tmp_path / "v", lines())
    found = read_vectors(path, needed, extra=extra, lowercase=lowercase)
    check(found, naive(lines(), needed, extra, lowercase, 4))
    exact = {row.rpartition(" ")[0] for row in lines()} | set(WORDS)
    assert found.other_case == sum(word not in exact for word in found.rows)


def check(found: Vectors, expected: dict[str, list[float]]) -> None:
    assert set(found.rows) == set(expected)
    for word, row in found.rows.items():
        np.testing.assert_allclose(found.matrix[row], expected[word], rtol=1e-6)
    assert found.matrix.dtype == np.float32
    assert sorted(found.rows.values()) == list(range(len(found.matrix)))


def test_malformed_lines_are_skipped_and_named(tmp_path: Path) -> None:
    rows = lines([f"w{index}" for index in range(40)])
    rows[3], rows[7], rows[20], rows[30] = "w3 0.1 0.2", "w7 0.1 nan 0.2 0.3", "w20 0.1 x 0.2 0.3", "w30 1 2 3 4 5"
    found = read_vectors(write(tmp_path / "v", rows), [f"w{index}" for index in range(40)], lowercase=True)
    assert found.malformed_lines == (4, 8, 21, 31)
    assert found.malformed == 4
    assert len(found.rows) == 36
    assert any("4 malformed lines skipped: 4, 8, 21, 31" in line for line in found.notices([], True))
    with_header = read_vectors(write(tmp_path / "h", ["w 1 2 3 4", *rows], header=True), ["w"], lowercase=True)
    assert with_header.malformed_lines == (6, 33)  # the numbers of words that nobody needs are not parsed


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_the_first_line_may_be_malformed_too(tmp_path: Path, header: bool, zipped: bool) -> None:
    rows = ["w 0.1 0.2", *lines()]
    text = "".join(row + "\n" for row in ([f"{len(rows)} 4"] if header else []) + rows).encode() + b"\n"
    (tmp_path / "v").write_bytes(gzip.compress(text, 1) if zipped else text)
    found = read_vectors(tmp_path / "v", WORDS, lowercase=False)
    assert (found.dimension, found.malformed_lines) == (4, (1 + header, 12 + header))  # the blank line too
    check(found, naive(lines(), WORDS, 0, False, 4))


def test_words_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_bytes(b"a 1 2\nb\xff 1 2\nc 3 4\n")
    found = read_vectors(path, ["a", "c"], lowercase=True)
    assert (set(found.rows), found.malformed_lines) == ({"a", "c"}, (2,))


def test_many_malformed_lines_are_counted_not_listed(tmp_path: Path) -> None:
    rows = lines([f"w{index}" for index in range(60)]) + ["bad"] * 20
    found = read_vectors(write(tmp_path / "v", rows), ["w1"], lowercase=True)
    assert (found.malformed, len(found.malformed_lines)) == (20, NAMED)
    assert any("..." in line for line in found.notices([], True))


def test_casing_is_told(tmp_path: Path) -> None:
    cased, lower = write(tmp_path / "c", lines()), write(tmp_path / "l", lines(["the", "paris"]))
    needed = ["rome", "the"]
    told = read_vectors(cased, needed, extra=1, lowercase=True).notices(needed, True)
    assert "2 of the 2 words of the training data have a vector of 4 numbers (100.0 %)" in told[0]
    assert "1 more words of the file are known" in told[0]
    assert "1 words took the vector of a capitalized form; --cased keeps both" in told[1]
    needed = ["Paris", "the", "Lima"]
    told = read_vectors(lower, needed, lowercase=False).notices(needed, False)
    assert "2 of the 3 words of the training data have a vector of 4 numbers (66.7 %)" in told[0]
    assert "1 words took the vector of their lower-case form" in told[1]
    assert len(read_vectors(lower, ["paris"], lowercase=True).notices(["paris"], True)) == 1
    assert len(read_vectors(cased, ["Paris"], lowercase=False).notices(["Paris"], False)) == 1
    told = read_vectors(cased, ["King"], lowercase=False).notices(["King"], False)
    assert told[1].endswith("1 words took the vector of their lower-case form")


def damaged(path: Path, kind: str) -> Path:
    rows = lines()
    match kind:
        case "missing":
            return path
        case "empty":
            path.write_bytes(b"")
        case "prose":
            path.write_text("It was a dark and stormy night.\n" * 200)
        case "broken lines":
            path.write_text("a 1 2 3\n" + "b 1\n" * 200)
        case "another dimension than the header says":
            path.write_text("10 7\n" + "\n".join(rows))
        case "truncated gzip":
            path.write_bytes(gzip.compress("\n".join(rows * 50).encode())[:-30])
        case "lines broken later":
            path.write_text("a 1 2 3\n" * 40 + "b 1\n" * 200)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", "there is no vector file"),
        ("empty", "holds no vectors"),
        ("prose", "most of its first lines have no numbers; give GloVe's text format"),
        ("broken lines", "most of its first lines have no numbers"),
        ("lines broken later", "60 of its first 100 lines hold no vector"),
        ("another dimension than the header says", "its header says 7 numbers a vector, most have 4"),
        ("truncated gzip", r"is truncated or damaged \(.*\); copy or download it again"),
    ],
)
def test_what_is_no_vector_file(tmp_path: Path, kind: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_vectors(damaged(tmp_path / "v", kind), ["the"], lowercase=True)


@pytest.mark.parametrize("said", [3, 20])
def test_a_header_that_counts_other_lines_is_told(tmp_path: Path, said: int) -> None:
    path = tmp_path / "v"
    path.write_text(f"{said} 4\n" + "\n".join(lines()))
    found = read_vectors(path, ["the"], lowercase=True)
    assert any(f"holds 10 vectors, its header says {said}" in told for told in found.notices(["the"], True))
    path.write_text("10 4\n" + "\n".join(lines()))
    assert not any("its header" in told for told in read_vectors(path, WORDS, lowercase=False).notices(WORDS, False))


def test_a_zip_of_several_dimensions_as_it_is_downloaded(tmp_path: Path) -> None:
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for size in (4, 6):
            archive.writestr(f"glove.{size}d.txt", "\n".join(lines(size=size)) + "\n")
        archive.writestr("README", "Vectors of words.\n")
    for size in (4, 6):
        found = read_vectors(path, WORDS, lowercase=False, dimension=size)
        check(found, naive(lines(size=size), WORDS, 0, False, size))
    with pytest.raises(InputError, match=r"glove.4d.txt \(4\), glove.6d.txt \(6\); choose one with --embedding-dim"):
        read_vectors(path, WORDS, lowercase=False)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.4d.txt", "\n".join(lines(size=4)) + "\n")
    with pytest.raises(InputError, match=r"more.4d.txt \(4\); unpack it, and give the one that you mean$"):
        read_vectors(path, WORDS, lowercase=False, dimension=4)


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress])
def test_other_ways_to_pack_and_a_byte_order_mark(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "v"
    path.write_bytes(pack(b"\xef\xbb\xbf" + "\n".join(lines()).encode()))
    check(read_vectors(path, WORDS, lowercase=False), naive(lines(), WORDS, 0, False, 4))


def test_another_dimension_than_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "v", lines())
    with pytest.raises(InputError, match="has vectors of 4 numbers, not 300; leave --embedding-dim out, or give 4"):
        read_vectors(path, ["the"], lowercase=True, dimension=300)
    assert read_vectors(path, ["the"], lowercase=True, dimension=4).dimension == 4


@pytest.mark.parametrize("zipped", [False, True])
def test_memory_is_that_of_the_words_taken(tmp_path: Path, zipped: bool) -> None:
    numbers = [row.partition(" ")[2] for row in lines([f"n{index}" for index in range(100)], size=300)]
    rows = [f"w{index} {numbers[index % 100]}" for index in range(4000)]
    path = write(tmp_path / "v", rows * 3, zipped=zipped)
    size = sum(map(len, rows)) * 3
    read_vectors(write(tmp_path / "first", lines(), zipped=zipped), ["the"], lowercase=True)
    tracemalloc.start()
    read_vectors(path, ["w5", "w3999"], extra=10, lowercase=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 20e6
    assert peak < 10e6


@pytest.mark.parametrize("name", ["fasttext-mini.100d.30k.vec.gz", "glove-mini.100d.30k.txt.gz"])
def test_real_files(name: str) -> None:
    path = Path(os.environ.get("COMPRESSKIT_SHARED", "../shared")) / "data" / "vectors" / name
    if not path.is_file():
        pytest.skip("no shared data")
    found = read_vectors(path, ["the", "king"], extra=100_000, lowercase=False)
    assert (found.lines, found.malformed, found.dimension) == (30_000, 0, 100)
    assert len(found.rows) == 30_000
    assert (found.capitalized > 0.1) == name.startswith("fasttext")


@pytest.mark.parametrize("start", ["1" * 5000 + " 3\n", "the 0.1 0.2\n" * 3 + "x" * 2_000_000])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_line_without_end(start: str, zipped: bool, tmp_path: Path) -> None:
    """Neither its length nor its number is more than Python reads."""
    path = tmp_path / "vectors"
    path.write_bytes(gzip.compress(start.encode()) if zipped else start.encode())
    with pytest.raises(InputError, match="vectors"):
        read_vectors(path, {"the"}, lowercase=False)
