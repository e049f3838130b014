"""ONNX checkpoints for tests: a tiny reader exported by torch, and what onnxruntime's quantizer makes of it."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from tests.models import tiny

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Logits(nn.Module):
    """A reader whose inputs come in order and whose outputs are a pair, as the exporter wants them."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(**dict(zip(self.names, inputs, strict=True)))
        return outputs.start_logits, outputs.end_logits


def export(kind: tiny.Kind, base: Path, folder: Path) -> Path:
    """Write a checkpoint of Optimum's layout, and the safetensors checkpoint that it is made from as `base`."""
    tiny.save(kind, base)
    names = NAMES if kind in ("bert", "electra") else NAMES[:2]
    loaded = load_trainable(resolve(str(base)))
    folder.mkdir()
    ids = torch.arange(7, 27).reshape(2, 10)
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(names)]
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(loaded.model.eval(), names).eval(),
            inputs,
            folder / "model.onnx",
            input_names=names,
            output_names=("start_logits", "end_logits"),
            dynamo=True,
            dynamic_shapes={"inputs": tuple(shape for _ in names)},
            external_data=False,
            verbose=False,
        )
    for path in base.iterdir():
        if path.suffix == ".json":
            shutil.copy(path, folder)
    return folder


def put_weights_beside(folder: Path) -> None:
    """Move the weights of a graph to a file beside it, of the name that torch's exporter gives."""
    path = folder / "model.onnx"
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="model.onnx.data", size_threshold=256)


def fix_shape(folder: Path) -> None:
    """Let a graph take two rows of ten tokens alone, as one that was exported without dynamic axes."""
    model = onnx.load(folder / "model.onnx")
    for entry in model.graph.input:
        for axis, size in zip(entry.type.tensor_type.shape.dim, (2, 10), strict=True):
            axis.dim_value = size
    onnx.save(model, folder / "model.onnx")
