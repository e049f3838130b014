"""A Mamba's adapter in the form that plain PEFT opens, compared with the adapter that it was made from."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compresskit import console
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.method import Attached
from compresskit.models.kinds import base_source
from compresskit.models.kinds.peft_adapter import inject_adapter
from compresskit.models.kinds.weight_adapter import is_linear
from compresskit.models.loaded import TrainableModel
from compresskit.models.mamba import is_mamba
from compresskit.models.mamba.adapters import take_adapters_off
from compresskit.models.mamba.plain import is_plain, peft_plain
from compresskit.models.probing import difference, logits
from compresskit.models.registry import whole_base
from compresskit.models.source import ALIASES, Source

# The largest difference of a logit, in parts of the largest one.
TOLERANCE = 1e-4


def check_adapter(loaded: TrainableModel) -> None:
    """Refuse what cannot be written for plain PEFT, or need not be.

    Raises InputError for what is no adapter, and for one that changes weights of no layer of PEFT's; UsageError for one
    that plain PEFT opens as it is.
    """
    ref, folder = loaded.ref, _source(loaded).path
    if loaded.kind.name != "adapter":
        raise InputError(f"{ref} is of kind {loaded.kind.name}, and --peft-plain takes an adapter")
    if not is_linear(loaded.family.weights(loaded.model)):
        raise InputError(
            f"{ref} adapts weights that PEFT has no layers for; merge it instead: compresskit merge {shlex.quote(ref)}"
        )
    if not is_mamba(loaded.model) or is_plain(folder):
        raise UsageError(f"--peft-plain has no effect: plain PEFT opens {ref} as it is")


class PlainAdapter(Attached):
    """The adapter of a Mamba, to be written for plain PEFT."""

    def __init__(self, loaded: TrainableModel) -> None:
        self.loaded = loaded

    def finish(self) -> Mapping[str, Any]:
        """Who opens it."""
        return {"adapter": "peft"}

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """A folder of PEFT's layout, on the base's whole weights.

        Raises InputError for an adapter that plain PEFT has no way to compute with, RunFailed where the logits are
        others.
        """
        source = _source(self.loaded)
        peft_plain(source.path, folder, _unpacked_base(source))
        before = logits(self.loaded)
        take_adapters_off(self.loaded.model)
        inject_adapter(self.loaded.model, folder)
        worst = difference(logits(self.loaded), before)
        if not worst <= TOLERANCE:
            raise RunFailed(f"plain PEFT's logits differ from those of {source.ref} by {worst:.1g}; merge it instead")
        console.info(f"plain PEFT gives the adapter's logits (largest difference {worst:.0e})")


def _unpacked_base(source: Source) -> str | None:
    """The name of what an adapter's base was packed from, since LoKr needs whole weights; None where it was not."""
    base, whole = base_source(source), whole_base(source)
    if base is None or whole is None or base.path == whole.path:
        return None
    console.info(f"{source.ref} stands on packed weights, and plain PEFT opens it on those that they were packed from")
    return ALIASES.get(whole.ref, whole.ref) if whole.revision else os.path.normpath(whole.path)


def _source(loaded: TrainableModel) -> Source:
    """The folder that a model was opened from."""
    assert loaded.path is not None
    return Source(loaded.ref, loaded.path, loaded.revision)
