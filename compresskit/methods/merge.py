"""`merge`: fold an overlay into its base, to a plain checkpoint that every loader opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compresskit import console
from compresskit.checkpoint.manifest import KindName
from compresskit.errors import RunFailed
from compresskit.methods.job import Job, MergeConfig
from compresskit.methods.method import Attached, Conversion
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import difference, logits

# Rounding of a merged weight, in parts of the largest logit.
TOLERANCE = 1e-3


class MergeMethod(Conversion):
    """A mask is applied when the checkpoint is opened; adapters are added to the weights that they stand on."""

    name = "merge"
    Config = MergeConfig
    accepts: frozenset[KindName] = frozenset({"mask", "adapter"})

    def leaves(self, config: MergeConfig) -> KindName:
        """A plain checkpoint."""
        return "full"

    def title(self, config: MergeConfig) -> str:
        """There is one way to merge."""
        return self.name

    def output(self, job: Job) -> Path:
        """Beside the overlay."""
        return Path(job.options.model.rstrip("/") + "-merged")

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """Every overlay that opens can be merged."""

    def attach(self, loaded: TrainableModel, config: MergeConfig, dtype: torch.dtype) -> Attached:
        """The merged model, to be saved."""
        return Merged(loaded)


class Merged(Attached):
    """A model with its overlay folded in."""

    def __init__(self, loaded: TrainableModel) -> None:
        self.loaded = loaded

    def finish(self) -> Mapping[str, Any]:
        """Fold PEFT's adapters into the weights. Raises RunFailed where the model then answers otherwise."""
        if fold(self.loaded):
            console.info("the merged weights give the adapter's logits")
        return {}

    def save(self, folder: Path) -> None:
        """A plain checkpoint in fp32, with the overlay's logits."""
        self.loaded.model.save_pretrained(folder)


@torch.no_grad()
def fold(loaded: TrainableModel) -> bool:
    """Put plain layers with the effective weights in the place of PEFT's layers; whether there were any.

    Raises RunFailed where the logits of random inputs differ by more than rounding.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = loaded.model
    adapted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)]
    if not adapted:
        return False
    before = logits(loaded)
    for name, layer in adapted:
        merging: Any = layer
        merging.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, merging.get_base_layer())
    model.requires_grad_(True)
    worst = difference(logits(loaded), before)
    if not worst <= TOLERANCE:
        raise RunFailed(
            f"the merged model's logits differ from the adapter's by {worst:.1g}; keep {loaded.ref} as it is"
        )
    return True
