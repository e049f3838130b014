"""Plain weights under other names than their model's: those of a wrapper, or of torch's masks. They are read.

`nn.DataParallel` puts `module.` in front of every name, `torch.compile` puts `_orig_mod.` into them, and
`torch.nn.utils.prune` keeps a weight in two tensors, `weight_orig` and `weight_mask`, whose product it is.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit import console
from compresskit.checkpoint.headers import FLOATS, Header, headers_in
from compresskit.checkpoint.store import load_tensors, save_tensors, weight_files
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.errors import InputError
from compresskit.models.foreign import RECIPES
from compresskit.text import counted

if TYPE_CHECKING:
    from torch import Tensor

COMPILED, WRAPPED = "_orig_mod.", "module."
ORIGINAL, MASK = "_orig", "_mask"


@contextlib.contextmanager
def mended(folder: Path) -> Iterator[Path]:
    """The folder itself, or while the block runs a temporary one with the same weights under their model's names.

    Raises InputError where a file is damaged, and OSError where the temporary one has no room.
    """
    headers = headers_in(folder)
    names = unwrapped(headers)
    masked = pruned({names[name]: header for name, header in headers.items()})
    if not masked and all(name == own for name, own in names.items()):
        yield folder
        return
    _tell(folder, masked=len(masked), renamed=sum(name != own for name, own in names.items()))
    with temporary_folder() as made:
        # Those of the model and of how it writes text, and what other tools say of the weights.
        for path in {path for pattern in ("*config.json", *RECIPES) for path in folder.glob(pattern)}:
            shutil.copy(path, made)
        tensors = {names[name]: each for path in weight_files(folder) for name, each in load_tensors(path).items()}
        _fold(tensors, masked)
        save_tensors(made / "model.safetensors", tensors, {"format": "pt"})
        del tensors
        try:
            yield made
        except InputError as error:  # a person knows the folder by its own name
            raise InputError(str(error).replace(str(made), str(folder))) from error


def unwrapped(names: Collection[str]) -> Mapping[str, str]:
    """By each name the one without what wrappers added; all as they are where two would become one."""
    own = {name: name.replace(COMPILED, "") for name in names}
    while own and all(each.startswith(WRAPPED) for each in own.values()):
        own = {name: each.removeprefix(WRAPPED) for name, each in own.items()}
    return own if len(set(own.values())) == len(own) else {name: name for name in names}


def pruned(headers: Mapping[str, Header]) -> list[str]:
    """The weights that lie in their original and a mask of the same shape, sorted."""

    def is_pair(name: str) -> bool:
        original, mask = headers[name + ORIGINAL], headers.get(name + MASK)
        fits = mask is not None and mask.shape == original.shape and original.dtype in FLOATS
        return fits and name not in headers

    originals = (name.removesuffix(ORIGINAL) for name in headers if name.endswith(ORIGINAL))
    return sorted(name for name in originals if is_pair(name))


def _fold(tensors: dict[str, Tensor], masked: Collection[str]) -> None:
    """Put each weight in the place of its original and its mask."""
    for name in masked:
        original, mask = tensors.pop(name + ORIGINAL), tensors.pop(name + MASK)
        tensors[name] = original * mask.to(original.dtype)


@functools.cache
def _tell(folder: Path, *, masked: int, renamed: int) -> None:
    if renamed:
        console.info(f"{folder}: {counted(renamed, 'tensor')} read without the names of a wrapper around the model")
    if masked:
        console.info(f"{folder}: {counted(masked, 'weight')} read with the mask that torch.nn.utils.prune left beside")
