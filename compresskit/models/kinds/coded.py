"""Checkpoints of our int8 weights that are entropy-coded, which compresskit alone opens.

Such a folder is that of `int8.py` with `coded.safetensors` in the place of `model.safetensors`; without the latter
other loaders stop.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from compresskit.checkpoint.coded import FILE, is_coded, load_coded, read_coded, shannon_bits
from compresskit.checkpoint.store import save_tensors
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.errors import InputError
from compresskit.models.kind import Contents, Matrix


@contextlib.contextmanager
def uncoded(folder: Path) -> Iterator[Path]:
    """The folder itself, or while the block runs a temporary one in which its coded weights are decoded.

    Transformers reads a model's tensors from files alone. Raises what `load_coded` raises, InputError for codes
    without scales, and OSError where the temporary one has no room.
    """
    from compresskit.models.kinds.int8 import SCALE

    if not is_coded(folder):
        yield folder
        return
    tensors = load_coded(folder)
    if alone := sorted(name for name in read_coded(folder) if name + SCALE not in tensors):
        raise InputError(f"{folder / FILE} has no scales for {alone[0]}; it is damaged: copy or make it again")
    with temporary_folder() as made:
        for path in folder.glob("*config.json"):  # of the model, and of how it writes text
            shutil.copy(path, made)
        save_tensors(made / "model.safetensors", tensors)
        del tensors
        yield made


def coded_contents(folder: Path) -> Contents:
    """The matrices of repeated blocks, and how near all codes are to the fewest bytes possible (Shannon 1948).

    Nothing is decoded. Raises what `read_coded` raises.
    """
    from compresskit.models.kinds.int8 import SCALE
    from compresskit.models.matrices import IN_BLOCK, file_matrices, in_order

    weights = read_coded(folder)
    coded = (
        Matrix(name, each.shape, "int8", each.remaining, each.size)
        for name, each in weights.items()
        if IN_BLOCK.search(name)
    )
    # Words are of one dimension; what has two is kept as it is, but for scales.
    whole = (each for each in file_matrices(folder / FILE) if each.name.removesuffix(SCALE) not in weights)
    matrices = in_order(itertools.chain(coded, whole))
    size, stored = sum(each.size for each in weights.values()), sum(each.stored for each in weights.values())
    bound = sum(shannon_bits(each.counts.tolist()) for each in weights.values()) / 8
    over = f": {100 * (stored / bound - 1):.1f} % over the Shannon bound" if bound else ""
    codes = f"{stored:,} bytes with their counts, for {size:,} weights{over}"
    return Contents(matrices, [("quantized", "int8, entropy-coded"), ("codes", codes)])
