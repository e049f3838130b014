"""A checkpoint in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.checkpoint.manifest import Manifest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from compresskit.models.family import Family
    from compresskit.models.kind import Kind
    from compresskit.models.kinds.onnx_graph import OnnxReader
    from compresskit.models.kinds.onnx_seq2seq import OnnxSeq2Seq
    from compresskit.models.task import Task


@dataclass(slots=True)
class LoadedModel:
    """A checkpoint in memory, ready to be asked.

    `ref` is what the user typed; `path` the folder that it came from (None for a model that was never saved); `base`
    the folder of an overlay's base. `missing_head` tells that the checkpoint has no question-answering head (its
    weights are random). `files` are those that are needed to run it; `made_by` is how another tool made it.
    """

    model: PreTrainedModel | OnnxReader | OnnxSeq2Seq
    tokenizer: PreTrainedTokenizerFast
    family: Family
    kind: Kind
    ref: str
    path: Path | None
    manifest: Manifest | None
    revision: str | None = None
    base: Path | None = None
    missing_head: bool = False
    files: list[Path] = field(default_factory=list)
    made_by: str = "-"

    @property
    def task(self) -> Task:
        """How its questions are asked."""
        return self.family.task

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def method(self) -> str:
        """The last method of the manifest; of another tool's checkpoint `lora`, `bnb-4bit`, `onnx`, …, or `-`."""
        return self.manifest.method if self.manifest is not None else self.made_by


@dataclass(slots=True)
class TrainableModel(LoadedModel):
    """A checkpoint in memory that torch computes, so that it can be trained, masked, adapted and saved."""

    model: PreTrainedModel
