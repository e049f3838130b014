"""fastText's own format against fastText: `fasttext.bin` and the vectors in `fasttext.json` are what its 0.9.2 wrote.

It had been trained on four sentences (dim 5, minCount 1, bucket 60, minn 2, maxn 4). `fasttext.ftz` is quantized.
"""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from compresskit.errors import InputError
from compresskit.models.lstm.vector_file import read_vectors

HERE = Path(__file__).parent
FILE, WORDS = HERE / "fasttext.bin", 23
EXPECTED: dict[str, list[float]] = json.loads((HERE / "fasttext.json").read_text())
# Words that the model was not trained on.
LACKING = list(EXPECTED)[WORDS:]


@pytest.mark.parametrize("word", EXPECTED)
def test_vectors_are_fasttexts(word: str) -> None:
    found = read_vectors(FILE, [word], lowercase=word == word.lower())
    if word == "Queen":  # the lower-case word of the file serves it, as in text files
        word = "queen"
    np.testing.assert_allclose(next(iter(found.matrix)), EXPECTED[word], atol=2e-8)
    assert (found.dimension, found.lines) == (5, WORDS)
    assert found.composed == (word in LACKING)


def test_further_words_and_what_is_said() -> None:
    needed = ["kings", "paris", "of"]
    found = read_vectors(FILE, needed, extra=2, lowercase=True)
    further = [word for word in EXPECTED if word.lower() not in needed][:2]
    assert set(found.rows) == {*needed, *further}
    assert (found.composed, found.other_case, found.malformed) == (1, 1, 0)
    told = found.notices(needed, True)
    assert "3 of the 3 words of the training data have a vector of 5 numbers (100.0 %)" in told[0]
    assert told[1].endswith("1 of these words it lacks; their vectors are of their subwords")
    np.testing.assert_allclose(found.matrix[found.rows["paris"]], EXPECTED["Paris"], atol=2e-8)


def test_without_subwords_unknown_words_stay_unknown(tmp_path: Path) -> None:
    data = bytearray(FILE.read_bytes())
    struct.pack_into("<i", data, 8 + 4 * 10, 0)  # maxn
    (tmp_path / "v.bin").write_bytes(data)
    found = read_vectors(tmp_path / "v.bin", ["kings", "king"], lowercase=True)
    assert (set(found.rows), found.composed) == ({"king"}, 0)
    rows = np.frombuffer(FILE.read_bytes(), np.float32, 83 * 5, offset=matrix_at(bytes(data))).reshape(-1, 5)
    assert any(np.array_equal(found.matrix[0], row) for row in rows[:WORDS])


def matrix_at(data: bytes) -> int:
    return data.index(struct.pack("<2q", 83, 5)) + 16


def damaged(path: Path, kind: str) -> Path:
    data = bytearray(FILE.read_bytes())
    match kind:
        case "head":
            data = data[:70]
        case "words":
            data = data[:200]
        case "matrix":
            data = data[: matrix_at(bytes(data)) + 100]
        case "magic alone":
            data = data[:4]
        case "version":
            struct.pack_into("<i", data, 4, 11)
        case "no number":
            struct.pack_into("<f", data, matrix_at(bytes(data)), float("nan"))
        case "dimension" | "buckets" | "minn" | "maxn":
            at = {"dimension": 0, "buckets": 8, "minn": 9, "maxn": 10}[kind]
            struct.pack_into("<i", data, 8 + 4 * at, -1)
        case "count of words":
            struct.pack_into("<i", data, 8 + 56 + 4, 22)
        case "no words":
            struct.pack_into("<i", data, 8 + 56, -1)
        case "rows":
            struct.pack_into("<q", data, matrix_at(bytes(data)) - 16, 82)
        case "zipped":
            data = bytearray(gzip.compress(data))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        *((kind, "is truncated; copy or download it again") for kind in ("head", "words", "matrix", "magic alone")),
        ("version", "has version 11 of fastText's format, not 12; give its .vec"),
        *((kind, "is damaged: it holds") for kind in ("count of words", "no words")),
        *((kind, "is damaged: its settings are not a model's") for kind in ("dimension", "buckets", "minn", "maxn")),
        ("no number", "holds numbers that are not finite; copy or download it again"),
        ("rows", "is damaged: its matrix is not that of its words"),
        ("zipped", "is a compressed fastText .bin, which is read in place; unzip it first"),
    ],
)
def test_what_is_damaged(tmp_path: Path, kind: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_vectors(damaged(tmp_path / "v.bin", kind), ["the"], extra=100, lowercase=True)


def test_a_quantized_model() -> None:
    with pytest.raises(InputError, match=r"is a quantized fastText model; give the \.bin"):
        read_vectors(HERE / "fasttext.ftz", ["the"], lowercase=True)


def test_another_dimension_than_asked_for() -> None:
    with pytest.raises(InputError, match="has vectors of 5 numbers, not 300; leave --embedding-dim out, or give 5"):
        read_vectors(FILE, ["the"], lowercase=True, dimension=300)
