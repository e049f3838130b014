"""The codec of int8 weights: their codes in one safetensors file, entropy-coded near the Shannon bound.

The codes of a weight are coded by asymmetric numeral systems (Duda 2013, arXiv 1311.2540; the package `constriction`)
under a categorical model, whose probabilities are how often each code occurs in that weight. That costs the entropy of
the codes plus at most two 32-bit words. A pruned weight has the code 0, so a mask is coded with the values that it
keeps: by the chain rule of entropy a mask beside them would cost as much. The counts stand in the file's metadata. They
are whole numbers, from which every machine makes the same model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compresskit.checkpoint.store import load_tensors, read_safetensors_metadata, save_tensors
from compresskit.errors import InputError
from compresskit.text import from_json

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "compresskit.int8/1"
FILE = "coded.safetensors"

# Codes are from -127 to 127; a model of them counts from 0.
LARGEST = 127
SYMBOLS = 2 * LARGEST + 1

# A file keeps a scale for each row, and much else as it is: however empty its weights, this is more than they can be.
MOST_TIMES, UNASKED = 100, 1 << 24

Words = NDArray[np.uint32]
Codes = NDArray[np.int8]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CodedWeight:
    """What a file tells of a weight before it is decoded: its `shape`, how often each code occurs, `counts` (255,).

    `stored` is the number of bytes that its words and its entry in the metadata take.
    """

    shape: tuple[int, ...]
    counts: Counts
    stored: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(self.counts.sum())

    @property
    def remaining(self) -> int:
        """Number of weights that are not zero."""
        return self.size - int(self.counts[LARGEST])


def count(codes: Codes) -> Counts:
    """How often each code from -127 to 127 occurs, (255,)."""
    return np.bincount(codes.ravel().astype(np.int64) + LARGEST, minlength=SYMBOLS)


def shannon_bits(counts: Iterable[int]) -> float:
    """Least number of bits for symbols that occur `counts` times: the sum of c · log2(n/c) (Shannon 1948)."""
    occurring = [c for c in counts if c > 0]
    size = sum(occurring)
    return sum(c * math.log2(size / c) for c in occurring)


def encode(codes: Codes) -> Words:
    """Entropy-code an array of codes from -127 to 127 (any shape, read in C order) into 32-bit words."""
    import constriction

    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(codes.ravel().astype(np.int32) + LARGEST, _model(count(codes)))
    return np.asarray(coder.get_compressed(), dtype=np.uint32)


def decode(words: Words, shape: tuple[int, ...], counts: Counts) -> Codes:
    """Inverse of `encode`; `shape` and `counts` (255,) come from the metadata.

    Raises InputError where the words do not hold codes of that shape that occur so often.
    """
    import constriction

    try:
        coder = constriction.stream.stack.AnsCoder(np.ascontiguousarray(words))
        symbols = coder.decode(_model(counts), math.prod(shape))
    except (ValueError, AssertionError, TypeError) as error:
        raise InputError(f"it does not decode ({error})") from error
    codes = (np.asarray(symbols) - LARGEST).astype(np.int8).reshape(shape)
    if not np.array_equal(count(codes), counts) or not coder.is_empty():
        raise InputError("it does not decode to its counts of codes")
    return codes


def _model(counts: Counts) -> Any:
    """The model of codes that occur `counts` times; one that never does has the least probability, 2^-24."""
    import constriction

    # Not perfect: it is then made by sums, products and one quotient, which are the same on every machine.
    return constriction.stream.model.Categorical(counts.astype(np.float64), lazy=False, perfect=False)


def is_coded(folder: Path) -> bool:
    """Whether the weights of a checkpoint folder are coded."""
    return (folder / FILE).is_file()


def save_coded(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `coded.safetensors`: the words of every int8 tensor (codes from -127 to 127), and all others as they are.

    Shapes and counts of the coded ones stand in the metadata.
    """
    import torch

    codes = {name: tensor.numpy() for name, tensor in tensors.items() if tensor.dtype == torch.int8}
    table = {name: {"shape": list(each.shape), "counts": count(each).tolist()} for name, each in codes.items()}
    words = {name: torch.from_numpy(encode(each)) for name, each in codes.items()}
    metadata = {"schema": SCHEMA, "weights": _json(table)}
    save_tensors(folder / FILE, {**tensors, **words}, metadata)


def load_coded(folder: Path) -> dict[str, Tensor]:
    """The tensors that `save_coded` was given, on the CPU.

    Raises InputError where the file is missing, truncated, of another format, or does not decode.
    """
    import torch

    weights, tensors = read_coded(folder), load_tensors(folder / FILE)
    for name, weight in weights.items():
        try:
            tensors[name] = torch.from_numpy(decode(tensors[name].numpy(), weight.shape, weight.counts))
        except (InputError, TypeError, MemoryError) as error:
            raise _damaged(folder, name, error) from error
    return tensors


def read_coded(folder: Path) -> dict[str, CodedWeight]:
    """What the metadata of `coded.safetensors` tell of its coded weights, by name; nothing is decoded.

    Raises InputError where the file is missing, truncated, of another format, or the metadata do not fit together.
    """
    from safetensors import safe_open

    path = folder / FILE
    metadata = read_safetensors_metadata(path)
    if metadata.get("schema") != SCHEMA:
        raise InputError(
            f"{path} holds no coded weights of compresskit (schema {metadata.get('schema')!r}, not {SCHEMA!r})"
        )
    weights, name = {}, "?"
    with safe_open(path, framework="numpy") as file:
        lengths = {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)
    try:
        for name, entry in from_json(metadata["weights"]).items():
            weights[name] = _coded_weight(entry, lengths[name])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(folder, name, error) from error
    if sum(weight.size for weight in weights.values()) > MOST_TIMES * path.stat().st_size + UNASKED:
        raise InputError(f"{path} would decode to more than {MOST_TIMES} weights a byte; copy or make it again")
    return weights


def _coded_weight(entry: Any, words: int) -> CodedWeight:
    """A weight of `words` words by its entry in the metadata.

    Raises ValueError, TypeError, KeyError or OverflowError where that cannot be right.
    """
    stored = words * np.dtype(np.uint32).itemsize + len(_json(entry))
    weight = CodedWeight(tuple(entry["shape"]), np.asarray(entry["counts"], dtype=np.int64), stored)
    if (
        min(weight.shape, default=1) < 0
        or weight.counts.shape != (SYMBOLS,)
        or weight.counts.min() < 0
        or weight.size != math.prod(weight.shape)
    ):
        raise ValueError(f"its counts are not those of {SYMBOLS} codes and of its shape")
    return weight


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _damaged(folder: Path, name: str, error: Exception) -> InputError:
    return InputError(f"{folder / FILE}, codes of {name}: {error}; it is damaged: copy or make it again")
