"""`export`: a model as ONNX graphs, compared with the model that they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compresskit import console
from compresskit.checkpoint.manifest import KindName
from compresskit.methods.export.config import ExportConfig
from compresskit.methods.export.graph import check_exportable, save_configs, write_graph
from compresskit.methods.job import Job, default_output
from compresskit.methods.merge import fold
from compresskit.methods.method import Attached, Conversion
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import windows


class ExportMethod(Conversion):
    """Overlays are folded in; the graphs take batches of any size and length."""

    name = "export"
    Config = ExportConfig
    accepts: frozenset[KindName] = frozenset({"full", "mask", "adapter"})

    def leaves(self, config: ExportConfig) -> KindName:
        """A graph."""
        return "onnx"

    def title(self, config: ExportConfig) -> str:
        """`export/onnx`."""
        return f"{self.name}/onnx"

    def output(self, job: Job) -> Path:
        """`runs/<model>-onnx`."""
        return default_output(job.options.model, "onnx")

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """InputError for a model whose answers would be random, MissingError for a package that is not here."""
        check_exportable(loaded)

    def attach(self, loaded: TrainableModel, config: ExportConfig, dtype: torch.dtype) -> Attached:
        """The model, to be written as graphs."""
        return Exported(loaded)


class Exported(Attached):
    """A model with its overlay folded in, as graphs."""

    def __init__(self, loaded: TrainableModel) -> None:
        self.loaded = loaded

    def finish(self) -> Mapping[str, Any]:
        """Fold PEFT's adapters into the weights."""
        fold(self.loaded)
        return {}

    def save(self, folder: Path) -> None:
        """`model.onnx`, or the three graphs of an encoder-decoder with their weights, and the configuration."""
        if self.loaded.model.config.is_encoder_decoder:
            from compresskit.methods.export.seq2seq import write_graphs  # needs the packages of ONNX

            worst = write_graphs(self.loaded, folder)
        else:
            worst = write_graph(self.loaded, folder / "model.onnx", windows(self.loaded))
        save_configs(self.loaded.model, folder)
        console.info(f"the graph gives the model's logits (largest difference {worst:.0e})")
