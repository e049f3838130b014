"""Whether weights are finite: neither infinite nor NaN. With one that is not, every answer is noise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds an infinity or a NaN; None where none does.

    Least and greatest number tell both, at a tenth of the time of `isfinite`. Integers are finite.
    """
    import torch

    for name, tensor in named:
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        # torch has no comparison for numbers of 8 bits.
        low, high = torch.aminmax(tensor if tensor.itemsize > 1 else tensor.float())
        if not bool(low.isfinite() & high.isfinite()):
            return name
    return None


def check_files(folder: Path, called: Path) -> None:
    """InputError where a safetensors file of a folder holds a number that is not finite; it is `called` so to the user.

    One pass over files that were just written, and so are in memory still.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return
    from safetensors import safe_open

    for path in files:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            # What bitsandbytes packed in 4 bits may be kept as floats, of which the bytes alone mean something.
            plain = [name for name in sorted(names) if f"{name}.absmax" not in names]
            name = first_not_finite((name, file.get_tensor(name)) for name in plain)
        if name is not None:
            raise InputError(
                f"{called} is not written: its tensor {name} would not be finite; "
                "look at the weights that it is made from, or give a lower --lr"
            )
