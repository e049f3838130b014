"""The mask codec: boolean masks in one safetensors file, entropy-coded near the Shannon bound.

A mask of `n` bits with `k` ones is coded by asymmetric numeral systems (Duda 2013, arXiv 1311.2540; the package
`constriction`) under a Bernoulli(k/n) model, which costs `n·H(k/n)` bits plus at most two 32-bit words. A block mask is
coded at the resolution of its blocks. The model needs nothing but `k` and `n`, which stand in the file's metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit.checkpoint.headers import Header, read_headers
from compresskit.checkpoint.store import read_safetensors_metadata, save_arrays
from compresskit.errors import InputError
from compresskit.text import from_json

SCHEMA = "compresskit.mask/1"
FILE = "mask.safetensors"

LARGEST = 1 << 26
"""Weights under a mask that is decoded without its base to compare it with; few models have so large a matrix."""

Words = NDArray[np.uint32]
Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask: True where a weight is kept.

    `bits` has one entry for each block of the weight: shape (rows / block[0], columns / block[1]); `block` is
    (1, 1) for a mask of single weights.
    """

    bits: Bits
    block: tuple[int, int] = (1, 1)

    @property
    def ones(self) -> int:
        """Number of weights kept (not of blocks)."""
        return int(self.bits.sum()) * self.block[0] * self.block[1]

    @property
    def size(self) -> int:
        """Number of weights under the mask."""
        return self.bits.size * self.block[0] * self.block[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight under the mask."""
        return _covered(self.bits.shape, self.block)

    def expand(self) -> Bits:
        """The mask at the weight's own shape, a boolean array."""
        if self.block == (1, 1):
            return self.bits
        return self.bits.repeat(self.block[0], axis=0).repeat(self.block[1], axis=1)


@dataclass(frozen=True, slots=True)
class MaskEntry:
    """What a file tells of a mask before it is decoded: the `shape` of its bits, the `block`, and `ones` of its bits.

    Raises ValueError where that cannot be.
    """

    shape: tuple[int, ...]
    block: tuple[int, int]
    ones: int

    def __post_init__(self) -> None:
        sides = (*self.shape, *self.block)
        if not all(type(side) is int and side > 0 for side in sides) or not self.shape or len(self.block) != 2:
            raise ValueError("shape and block are not lists of whole numbers above 0")
        if self.block != (1, 1) and len(self.shape) != 2:
            raise ValueError("blocks are of matrices alone")
        if type(self.ones) is not int or not 0 <= self.ones <= math.prod(self.shape):
            raise ValueError("ones is not a number of its bits")

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight under the mask."""
        return _covered(self.shape, self.block)

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return self.ones * self.block[0] * self.block[1]


def _covered(grid: tuple[int, ...], block: tuple[int, int]) -> tuple[int, ...]:
    """The shape of the weight under a `grid` of blocks."""
    return grid if block == (1, 1) else (grid[0] * block[0], grid[1] * block[1])


def shannon_bits(ones: int, size: int) -> float:
    """Least number of bits that a mask of `size` entries with `ones` ones costs on average: n·H(k/n) (Shannon 1948)."""
    if ones in (0, size):
        return 0.0
    p = ones / size
    return -size * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


def encode(bits: Bits) -> Words:
    """Entropy-code a boolean array of any shape (read in C order) into 32-bit words."""
    import constriction

    ones = int(bits.sum())
    if ones in (0, bits.size):
        return np.zeros(0, dtype=np.uint32)
    coder = constriction.stream.stack.AnsCoder()
    model = constriction.stream.model.Bernoulli(ones / bits.size, perfect=False)
    coder.encode_reverse(bits.ravel().astype(np.int32), model)
    return np.asarray(coder.get_compressed(), dtype=np.uint32)


def decode(words: Words, shape: tuple[int, ...], ones: int) -> Bits:
    """Inverse of `encode`; `shape` and `ones` come from the metadata.

    Raises InputError where the words do not hold a mask of that shape with that many ones.
    """
    import constriction

    size = math.prod(shape)
    if ones in (0, size):
        if words.size:
            raise InputError("it has words, and its count of ones needs none")
        return np.full(shape, ones > 0, dtype=np.bool_)
    try:
        coder = constriction.stream.stack.AnsCoder(np.ascontiguousarray(words))
        model = constriction.stream.model.Bernoulli(ones / size, perfect=False)
        symbols = coder.decode(model, size)
    except (ValueError, AssertionError, TypeError) as error:
        raise InputError(f"it does not decode ({error})") from error
    bits = np.asarray(symbols).astype(np.bool_).reshape(shape)
    if int(bits.sum()) != ones or not coder.is_empty():
        raise InputError("it does not decode to its count of ones")
    return bits


def save_masks(folder: Path, masks: Mapping[str, Mask]) -> None:
    """Write `mask.safetensors`: the coded words of every mask, and shape, block and ones in the metadata."""
    table = {
        name: {"shape": list(mask.bits.shape), "block": list(mask.block), "ones": int(mask.bits.sum())}
        for name, mask in masks.items()
    }
    arrays = {name: encode(mask.bits) for name, mask in masks.items()}
    metadata = {"schema": SCHEMA, "masks": json.dumps(table, separators=(",", ":"))}
    save_arrays(folder / FILE, arrays, metadata)


def read_masks(folder: Path) -> dict[str, MaskEntry]:
    """What `mask.safetensors` of a checkpoint folder tells of its masks, by name; nothing is decoded.

    Raises InputError where the file is missing, truncated, of another format, holds no mask, or does not fit together.
    """
    path = folder / FILE
    metadata = read_safetensors_metadata(path)
    if metadata.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is not a mask file of compresskit (schema {metadata.get('schema')!r}, not {SCHEMA!r})"
        )
    words, masks, name = read_headers(path), {}, "?"
    try:
        table = dict(from_json(metadata["masks"]))
        if odd := sorted(table.keys() ^ words.keys()):
            name = odd[0]
            raise ValueError("it stands in the table alone" if name in table else "it does not stand in the table")
        for name, entry in table.items():
            masks[name] = _entry(entry, words[name])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, name, error) from error
    if not masks:
        raise InputError(f"{path} holds no mask; it is damaged: copy or make it again")
    return masks


def _entry(raw: Any, words: Header) -> MaskEntry:
    """An entry of the table. Raises ValueError, TypeError or KeyError where it is none, or its words are none."""
    if words.dtype != "U32" or len(words.shape) != 1:
        raise ValueError(f"its words are {words.dtype} of shape {words.shape}, not U32 in one row")
    return MaskEntry(tuple(raw["shape"]), tuple(raw["block"]), raw["ones"])


def load_masks(folder: Path, shapes: Mapping[str, Sequence[int]] = MappingProxyType({})) -> dict[str, Mask]:
    """Read `mask.safetensors` of a checkpoint folder; `shapes` are those of the base's weights, by name.

    Raises InputError where the file is missing, truncated, of another format, or does not decode, or where a mask is
    of another shape than its weight, or larger than any is whose weight is not among `shapes`.
    """
    from safetensors.numpy import load_file

    path, entries = folder / FILE, read_masks(folder)
    words, masks = load_file(path), {}
    for name, entry in entries.items():
        try:
            _check_shape(entry, shapes.get(name))
            masks[name] = Mask(decode(words[name], entry.shape, entry.ones), entry.block)
        except (InputError, ValueError, OverflowError, MemoryError) as error:  # a shape that no memory holds, too
            raise _damaged(path, name, error) from error
    return masks


def _damaged(path: Path, name: str, error: Exception) -> InputError:
    return InputError(f"{path}, mask of {name}: {error}; it is damaged: copy or make it again")


def _check_shape(entry: MaskEntry, weight: Sequence[int] | None) -> None:
    """ValueError where a mask cannot be its weight's: nothing is made of that size before."""
    shape = entry.weight_shape
    if weight is not None and shape != tuple(weight):
        raise ValueError(f"it covers {shape}, and does not fit its base's shape {tuple(weight)}")
    if weight is None and math.prod(shape) > LARGEST:
        raise ValueError(f"it covers {shape}, and its base is not there to compare it with; put it back")
