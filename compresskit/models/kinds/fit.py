"""Whether an overlay's tensors fit the weights that it stands on, by the headers of their files: nothing is computed.

What the headers do not tell, whoever opens the overlay sees: it has the model in memory. A file may call a weight
otherwise than the model does; of one that is not found by its name nothing is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from compresskit.checkpoint.headers import FLOATS, Header, headers_in, read_headers
from compresskit.checkpoint.mask import MaskEntry, read_masks
from compresskit.checkpoint.store import weight_files
from compresskit.errors import InputError

WEIGHTS_FILE = "weights.safetensors"
"""What was learned beside and under the masks of an overlay."""

Shape = tuple[int, ...]
Find = Callable[[str], Shape | None]
"""The shape of a base's weight by its name in the model; None where it is not known."""

_A, _B = ".lora_A.weight", ".lora_B.weight"


def finder(folder: Path) -> Find:
    """The shapes of the plain weights in a base's folder, by the names in its files, or their ends.

    A file of a model without a head leaves the model's own name out: `encoder.…` for `bert.encoder.…`. Raises
    InputError where a file is damaged.
    """
    known = headers_in(folder)
    # What bitsandbytes packed in 4 bits may be kept as floats.
    plain = (name for name, header in known.items() if header.dtype in FLOATS and f"{name}.absmax" not in known)
    shapes = {name: known[name].shape for name in plain}

    def find(name: str) -> Shape | None:
        while name and name not in shapes:
            name = name.partition(".")[2]
        return shapes.get(name)

    return find


def check_overlay(folder: Path, find: Find) -> None:
    """InputError where a mask, or a tensor that was learned, is not one of the base's weight of its name."""
    masks, learned = read_masks(folder), read_headers(folder / WEIGHTS_FILE)
    for name in sorted({*masks, *learned}):
        problem = _problem(masks.get(name), learned.get(name), find(name))
        if problem is not None:
            raise InputError(f"{folder}: {name} {problem}; it is damaged, or of another base: copy or make it again")
    under = masks.keys() & learned.keys()
    if under and (lost := masks.keys() - under):
        raise InputError(f"{folder / WEIGHTS_FILE} lacks what was learned of {min(lost)}; copy or make it again")


def _problem(mask: MaskEntry | None, learned: Header | None, shape: Shape | None) -> str | None:
    """What is wrong with a weight of an overlay, where its base has the `shape`; None where nothing is."""
    if learned is not None and learned.dtype not in FLOATS:
        return f"is stored as {learned.dtype}, which are no weights"
    if mask is not None and learned is not None and learned.shape != (mask.kept,):
        return f"does not fit its mask ({learned.shape} values for {mask.kept} kept weights)"
    own = mask.weight_shape if mask is not None else learned.shape if learned is not None else None
    if shape is not None and own != shape:
        return f"does not fit its base's shape {shape} (the overlay's is {own})"
    return None


def check_adapter(folder: Path, find: Find) -> None:
    """InputError where an adapter's file holds no weights, or a product B A has not the shape of what it is added to.

    The base's own weights that it replaces have their shape.
    """
    tensors = headers_in(folder)
    if not tensors and weight_files(folder):
        raise InputError(f"the adapter {folder} holds no tensor; it is damaged: copy or make it again")
    for name, header in sorted(tensors.items()):
        wanted = find(name)
        if header.dtype not in FLOATS and (wanted is not None or ".lora_" in name):
            raise InputError(f"the adapter {folder} has {name} as {header.dtype}, which are no weights; copy it again")
        if wanted is not None and wanted != header.shape:
            raise _unfit(folder, name, header.shape, wanted)
    for name in sorted(name.removesuffix(_A) for name in tensors if name.endswith(_A)):
        wanted = find(f"{name}.weight") or find(name)  # a layer's, or a weight itself
        shape = _product(tensors, name)
        if wanted is not None and len(wanted) == 2 and shape not in (None, wanted, wanted[::-1]):
            raise _unfit(folder, name, shape, wanted)


def _product(tensors: Mapping[str, Header], name: str) -> Shape | None:
    """The shape of B A; None where they are not two matrices that can be multiplied."""
    a, b = tensors[name + _A].shape, tensors[name + _B].shape if name + _B in tensors else ()
    return (b[0], a[1]) if len(a) == len(b) == 2 and a[0] == b[1] else None


def _unfit(folder: Path, name: str, own: Shape | None, wanted: Shape) -> InputError:
    told = f"{name} is {own}, where the base has {wanted}"
    return InputError(f"the adapter {folder} does not fit its base: {told}; give it its own base")
