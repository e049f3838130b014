"""`merge`: fold an overlay into its base, to a plain checkpoint that every loader opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compresskit.checkpoint.manifest import KindName
from compresskit.methods.job import Job, MergeConfig
from compresskit.methods.method import Attached
from compresskit.models.defaults import TrainingDefaults
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.source import Source


class MergeMethod:
    """A mask is applied when the checkpoint is opened, so all that is left is to write what is there."""

    name = "merge"
    Config = MergeConfig
    leaves: KindName = "full"
    accepts: frozenset[KindName] = frozenset({"mask"})
    trains = False
    defaults: TrainingDefaults | None = None

    def title(self, config: MergeConfig) -> str:
        """There is one way to merge."""
        return self.name

    def output(self, job: Job) -> Path:
        """Beside the overlay."""
        return Path(job.options.model.rstrip("/") + "-merged")

    def check(self, job: Job) -> None:
        """There is no option that could have no effect."""

    def prepare_base(self, source: Source, teacher: Source | None) -> Source:
        """The overlay itself."""
        return source

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """Every overlay that opens can be merged."""

    def prepare(self, asked: Job, loaded: TrainableModel, teacher: LoadedModel | None) -> Mapping[str, Any]:
        """Nothing to prepare."""
        return {}

    def attach(self, loaded: TrainableModel, config: MergeConfig, dtype: torch.dtype) -> Attached:
        """The merged model, to be saved."""
        return Merged(loaded)


class Merged(Attached):
    """A model with its overlay folded in."""

    def __init__(self, loaded: TrainableModel) -> None:
        self.loaded = loaded

    def save(self, folder: Path) -> None:
        """A plain checkpoint in fp32, with the overlay's logits."""
        self.loaded.model.save_pretrained(folder)
