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

import numpy as np
from numpy.typing import NDArray

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


def load_masks(folder: Path, shapes: Mapping[str, Sequence[int]] = MappingProxyType({})) -> dict[str, Mask]:
    """Read `mask.safetensors` of a checkpoint folder; `shapes` are those of the base's weights, by name.

    Raises InputError where the file is missing, truncated, of another format, or does not decode, or where a mask is
    of another shape than its weight, or larger than any is whose weight is not among `shapes`.
    """
    from safetensors.numpy import load_file

    path = folder / FILE
    metadata = read_safetensors_metadata(path)
    if metadata.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is not a mask file of compresskit (schema {metadata.get('schema')!r}, not {SCHEMA!r})"
        )
    words = load_file(path)
    masks = {}
    name = "?"
    try:
        for name, entry in from_json(metadata["masks"]).items():
            rows, columns = entry["block"]
            _check_shape(tuple(entry["shape"]), (rows, columns), shapes.get(name))
            masks[name] = Mask(decode(words[name], tuple(entry["shape"]), entry["ones"]), (rows, columns))
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        # A damaged header can say anything, also a shape that no memory holds.
        raise InputError(f"{path}, mask of {name}: {error}; it is damaged: copy or make it again") from error
    return masks


def _check_shape(grid: tuple[int, ...], block: tuple[int, int], weight: Sequence[int] | None) -> None:
    """ValueError where a mask of `grid` blocks cannot be its weight's: nothing is made of that size before."""
    shape = _covered(grid, block)
    if weight is not None and shape != tuple(weight):
        raise ValueError(f"it covers {shape}, and does not fit its base's shape {tuple(weight)}")
    if weight is None and math.prod(shape) > LARGEST:
        raise ValueError(f"it covers {shape}, and its base is not there to compare it with; put it back")


def _covered(grid: tuple[int, ...], block: tuple[int, int]) -> tuple[int, ...]:
    """The shape of the weight under a `grid` of blocks; ValueError where that is of another dimension than they."""
    return grid if block == (1, 1) else tuple(n * side for n, side in zip(grid, block, strict=True))
