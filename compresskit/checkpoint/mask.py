"""The mask codec: boolean masks in one safetensors file, entropy-coded near the Shannon bound.

A mask of `n` bits with `k` ones is coded by asymmetric numeral systems (Duda 2013, arXiv 1311.2540; the package
`constriction`) under a Bernoulli(k/n) model, which costs `n·H(k/n)` bits plus at most two 32-bit words. A block mask is
coded at the resolution of its blocks. The model needs nothing but `k` and `n`, which stand in the file's metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compresskit.checkpoint.store import read_safetensors_metadata, save_arrays
from compresskit.errors import InputError

SCHEMA = "compresskit.mask/1"
FILE = "mask.safetensors"

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


def load_masks(folder: Path) -> dict[str, Mask]:
    """Read `mask.safetensors` of a checkpoint folder.

    Raises InputError where the file is missing, truncated, of another format, or does not decode.
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
        for name, entry in json.loads(metadata["masks"]).items():
            rows, columns = entry["block"]
            masks[name] = Mask(decode(words[name], tuple(entry["shape"]), entry["ones"]), (rows, columns))
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        # A damaged header can say anything, also a shape that no memory holds.
        raise InputError(f"{path}, mask of {name}: {error}; it is damaged: copy or make it again") from error
    return masks
