"""Reading a file of word vectors: seconds and memory, against a loop over `str.split` that keeps every word.

python -m benchmarks.vector_file [--words 2000000] [--dimension 300] [--wanted 60000] [--gzip | --bin]

With --bin the file is fastText's own, its matrix empty on the disk (so no disk is timed), and half of the words wanted
are composed of their subwords; there is no loop to compare with.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import headline
from compresskit.models.lstm import fasttext_bin
from compresskit.models.lstm.vector_file import read_vectors

# The loop is timed on so many lines, and its time scaled up: it would need gigabytes for all of them.
PROBED = 20_000


def main() -> None:
    """Write a synthetic file, read it both ways, print both times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=2_000_000)
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--wanted", type=int, default=60_000)
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--bin", action="store_true")
    given = parser.parse_args()
    print(headline(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        needed = [f"word{index}" for index in range(0, given.words, max(given.words // given.wanted, 1))]
        if given.bin:
            written = write_binary(path, given.words, given.dimension)
            needed = needed[::2] + [f"unknown{index}" for index in range(len(needed) // 2)]
        else:
            written = write(path, given.words, given.dimension, zipped=given.gzip)
        before, started = peak(), time.perf_counter()
        found = read_vectors(path, needed, lowercase=True)
        seconds, more = time.perf_counter() - started, peak() - before
        kind = "fastText .bin" if given.bin else "text, gzip" if given.gzip else "text"
        print(
            f"{given.words:,} x {given.dimension}, {written / 1e9:.2f} GB of {kind}: "
            f"{seconds:.1f} s for {len(found.rows):,} words, {more:.0f} MB more memory at most"
        )
        if not given.bin:
            loop = naive(path, zipped=given.gzip) * given.words / PROBED
            print(f"the plain loop takes {loop / seconds:.1f} times as long")


def write(path: Path, words: int, dimension: int, *, zipped: bool) -> int:
    """Write `words` random vectors, of which a thousand differ; the bytes of the text."""
    generator, total = np.random.default_rng(0), 0
    rows = [" ".join(f"{x:.4f}" for x in generator.normal(0, 0.4, dimension)) for _ in range(1000)]
    with gzip.open(path, "wb", compresslevel=1) if zipped else path.open("wb") as file:
        for index in range(words):
            total += file.write(f"word{index} {rows[index % 1000]}\n".encode())
    return total


def write_binary(path: Path, words: int, dimension: int) -> int:
    """Write a fastText .bin with as many n-gram rows as words, all 0; its bytes."""
    settings = (dimension, 5, 5, 5, 5, 1, 2, 2, words, 3, 6, 100, 1e-4)
    with path.open("wb") as file:
        file.write(fasttext_bin.MAGIC + struct.pack("<i", fasttext_bin.VERSION))
        file.write(fasttext_bin.ARGUMENTS.pack(*settings) + fasttext_bin.DICTIONARY.pack(words, words, 0, 0, -1))
        for index in range(words):
            file.write(f"word{index}\0".encode() + fasttext_bin.ENTRY.pack(1, fasttext_bin.WORD))
        file.write(fasttext_bin.MATRIX.pack(False, 2 * words, dimension))
        file.truncate(file.tell() + 8 * words * dimension)
    return path.stat().st_size


def naive(path: Path, *, zipped: bool) -> float:
    """Seconds of the obvious loop for `PROBED` lines."""
    started, kept = time.perf_counter(), {}
    with gzip.open(path, "rt") if zipped else path.open() as file:
        for _, line in zip(range(PROBED), file, strict=False):
            word, *numbers = line.rstrip().split(" ")
            kept[word] = np.array([float(number) for number in numbers], np.float32)
    return time.perf_counter() - started


def peak() -> float:
    """The most memory that this process has had resident, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of what getrusage counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
