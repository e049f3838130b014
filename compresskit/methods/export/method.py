"""`export`: a model in a form that other programs open, compared with the model that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compresskit import console
from compresskit.checkpoint.manifest import KindName
from compresskit.methods.export.config import ExportConfig
from compresskit.methods.export.graph import check_exportable, save_configs, write_graph
from compresskit.methods.export.plain import PlainAdapter, check_adapter
from compresskit.methods.job import Job, default_output
from compresskit.methods.merge import fold
from compresskit.methods.method import Attached, Conversion
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import windows


class ExportMethod(Conversion):
    """Graphs take batches of any size and length, and overlays are folded into them; an adapter stays one."""

    name = "export"
    Config = ExportConfig
    accepts: frozenset[KindName] = frozenset({"full", "mask", "adapter"})

    def leaves(self, config: ExportConfig) -> KindName:
        """A graph, or an adapter on the same base."""
        return "adapter" if config.peft_plain else "onnx"

    def title(self, config: ExportConfig) -> str:
        """`export/onnx` or `export/peft-plain`."""
        return f"{self.name}/{'peft-plain' if config.peft_plain else 'onnx'}"

    def output(self, job: Job) -> Path:
        """`runs/<model>-onnx` or `runs/<model>-peft`."""
        return default_output(job.options.model, "peft" if job.config.peft_plain else "onnx")

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """Refuse what cannot be written in the format, or need not be: see `check_exportable`, `check_adapter`."""
        check = check_adapter if asked.config.peft_plain else check_exportable
        check(loaded)

    def attach(self, loaded: TrainableModel, config: ExportConfig, dtype: torch.dtype) -> Attached:
        """The model, to be written."""
        return PlainAdapter(loaded) if config.peft_plain else Exported(loaded)


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
        if self.loaded.family.name == "seq2seq":
            from compresskit.methods.export.seq2seq import write_graphs  # needs the packages of ONNX

            worst = write_graphs(self.loaded, folder)
        else:
            worst = write_graph(self.loaded, folder / "model.onnx", windows(self.loaded))
        save_configs(self.loaded.model, folder)
        console.info(f"the graph gives the model's logits (largest difference {worst:.0e})")
