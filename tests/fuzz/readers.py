"""The readers of what is not JSON, each as a function of a folder and of bytes that may be anything.

They return nothing, raise InputError, or have a fault. `test_readers.py` draws the bytes, `guided.py` lets a fuzzer
find those that lead to code not yet reached. So that the bytes come further than a header, they are two parts with a
zero byte between: what the metadata of a file of tensors say, and the words of its one tensor.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from compresskit.checkpoint import coded, mask
from compresskit.checkpoint.store import load_tensors
from compresskit.data import reading
from compresskit.evaluate import blind_record
from compresskit.models.lstm.vector_file import read_vectors

NAME = "w"


def write_tensors(path: Path, metadata: Mapping[str, str], content: bytes) -> None:
    """A safetensors file with one tensor `w` of 32-bit words, whole in itself; bytes that make no word are left out."""
    words = np.frombuffer(content[: len(content) // 4 * 4], np.uint32)
    save_file({NAME: words}, path, metadata=dict(metadata))


def read_mask(folder: Path, data: bytes) -> None:
    """A mask whose table and words are these bytes."""
    table, _, words = data.partition(b"\0")
    known = {"schema": mask.SCHEMA, "masks": table.decode(errors="replace")}
    write_tensors(folder / mask.FILE, known, words)
    mask.load_masks(folder)


def read_coded(folder: Path, data: bytes) -> None:
    """Weights of 8 bits whose table and words are these bytes."""
    table, _, words = data.partition(b"\0")
    known = {"schema": coded.SCHEMA, "weights": table.decode(errors="replace")}
    write_tensors(folder / coded.FILE, known, words)
    coded.load_coded(folder)


def read_header(folder: Path, data: bytes) -> None:
    """A safetensors file whose header and numbers are these bytes, behind the header's true length."""
    header, _, numbers = data.partition(b"\0")
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + numbers)
    load_tensors(path)


def read_file_of_vectors(folder: Path, data: bytes) -> None:
    """Word vectors: text, compressed text, or fastText's binary."""
    path = folder / "words.vec"
    path.write_bytes(data)
    read_vectors(path, ["the", "rome"], extra=2, lowercase=True)


def read_data(folder: Path, data: bytes) -> None:
    """Questions in whichever form these bytes are."""
    path = folder / "data"
    path.write_bytes(data)
    reading.read(path)


def read_record(folder: Path, data: bytes) -> None:
    """The record of a blind set."""
    path = folder / "held.json.blind.jsonl"
    path.write_bytes(data)
    with blind_record.opened(path) as book:
        book.checkpoints("")


READERS: Mapping[str, Callable[[Path, bytes], None]] = {
    "mask": read_mask,
    "coded": read_coded,
    "header": read_header,
    "vectors": read_file_of_vectors,
    "data": read_data,
    "record": read_record,
}

_ENTRY = blind_record.Entry(
    *("then", "d" * 64, "held.json", 9, "a" * 64, "small", "runs/small", "dense", ("train",), 1),
    *({"em": 70.0, "f1": 75.0}, None, {"max_length": 384}, {"torch": "2"}),
)
_COUNTS = [0] * (coded.LARGEST - 1) + [1, 2, 1] + [0] * (coded.LARGEST - 1)
SEEDS: Mapping[str, bytes] = {
    "mask": b'{"w":{"shape":[4,8],"block":[1,1],"ones":7}}\0'
    + mask.encode(np.arange(32).reshape(4, 8) % 5 == 1).tobytes(),
    "coded": f'{{"w":{{"shape":[2,2],"counts":{_COUNTS}}}}}'.replace(" ", "").encode()
    + b"\0"
    + coded.encode(np.array([[-1, 0], [0, 1]], np.int8)).tobytes(),
    "header": b'{"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}\0' + bytes(8),
    "vectors": b"2 3\nthe 1 2 3\nrome 0.5 1 1\n",
    "data": b'{"context": "A", "qas": [{"qid": 1, "question": "", "answers": {"text": ["A"], "answer_start": [2]}}]}',
    "record": _ENTRY.to_line().encode() * 2,
}
"""Bytes that each reader takes, from which a fuzzer starts."""
