"""`quantize`: weights are kept in few bits, by one of the backends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from compresskit import console
from compresskit.checkpoint.manifest import KindName
from compresskit.checkpoint.store import load_tensors, save_tensors, weight_files
from compresskit.errors import InputError, UsageError
from compresskit.methods.experts import check_experts
from compresskit.methods.export.graph import check_exportable
from compresskit.methods.job import Job, default_output
from compresskit.methods.method import Attached, Conversion, Footprint
from compresskit.methods.quantize.calibration import training_data
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.methods.quantize.graph import Graph
from compresskit.methods.quantize.int8 import Int8
from compresskit.methods.quantize.reopening import reopened_otherwise
from compresskit.models.blocks import is_linear_layer
from compresskit.models.int8 import is_plain
from compresskit.models.kinds.bnb import pack
from compresskit.models.kinds.int8 import SMALLEST_SIDE, quantizable
from compresskit.models.linear import linear_layers
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import reached
from compresskit.models.registry import require_head
from compresskit.options import refuse


class QuantizeMethod(Conversion):
    """Weights of a plain checkpoint, or of a mask's, in 8 bits or 4; nothing is learned."""

    name = "quantize"
    Config = QuantizeConfig
    accepts: frozenset[KindName] = frozenset({"full", "mask"})

    def leaves(self, config: QuantizeConfig) -> KindName:
        """Packed weights; of onnxruntime a graph."""
        return "onnx" if config.backend == "onnxruntime" else "quantized"

    def title(self, config: QuantizeConfig) -> str:
        """`quantize/int8`; else as another tool's checkpoint of that sort is called, such as `quantize/bnb-4bit`."""
        names = {"torch": "int8", "bitsandbytes": f"bnb-{config.bits}bit", "onnxruntime": "onnx-int8"}
        return f"{self.name}/{names[config.backend]}"

    def output(self, job: Job) -> Path:
        """`runs/<model>-4bit`; of a graph `runs/<model>-onnx-8bit`."""
        graph = "onnx-" if job.config.backend == "onnxruntime" else ""
        return default_output(job.options.model, f"{graph}{job.config.bits}bit")

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """UsageError where a backend cannot pack such weights, InputError where none can."""
        check_experts(loaded, self.name, needed=True)
        weights = loaded.family.weights(loaded.model)
        if any(isinstance(module, Conv1D) for module in weights.values()):
            raise InputError(
                f"{loaded.ref} has the weights of its blocks transposed (Conv1D, as GPT-2), which no backend packs; "
                "prune it, or take a model of another type"
            )
        if asked.config.calibrate is not None:
            require_head(loaded)
            training_data(loaded, asked.config)
        most = len(quantizable(loaded))
        if asked.config.keep_top is not None and asked.config.keep_top >= most:
            raise UsageError(f"{loaded.ref} has {most} matrices for 8 bits; --keep-top has to be less")
        if asked.config.backend == "torch" and not most:
            raise UsageError(
                f"{loaded.ref} has no matrix with two sides of {SMALLEST_SIDE} or more: in 8 bits nothing would be less"
            )
        if asked.config.backend == "onnxruntime":
            check_exportable(loaded)
            if loaded.family.name == "seq2seq":
                refuse(asked.config, ("calibrate",), f"with the graphs of {loaded.ref}, which writes its answers")
        if asked.config.backend == "bitsandbytes":
            _check_plain(loaded)

    def attach(self, loaded: TrainableModel, config: QuantizeConfig, dtype: torch.dtype) -> Attached:
        """The model, to be packed."""
        backends: dict[str, type[Int8 | Packed | Graph]] = {"torch": Int8, "bitsandbytes": Packed, "onnxruntime": Graph}
        if config.backend == "onnxruntime" and loaded.family.name == "seq2seq":
            from compresskit.methods.quantize.graphs import Graphs  # needs the packages of ONNX

            return Graphs(loaded, config)
        return backends[config.backend](loaded, config)


def _check_plain(loaded: TrainableModel) -> None:
    """UsageError where a model has its weights in layers of its own, which bitsandbytes does not pack."""
    modules = list(loaded.family.weights(loaded.model).values())
    others = sorted({type(module).__name__ for module in modules if type(module) is not nn.Linear})
    if others and not (all(map(is_linear_layer, modules)) and any(map(is_plain, modules))):
        raise UsageError(
            f"bitsandbytes packs torch's own linear layers alone, and {loaded.ref} has its weights in others "
            f"({', '.join(others)}); leave out --backend, and in place of qlora take lora"
        )


class Packed(Attached):
    """A model that bitsandbytes packs.

    Every linear layer that is called is, but the head, the output over the vocabulary, and in 8 bits T5's `wo`.
    """

    def __init__(self, loaded: TrainableModel, config: QuantizeConfig) -> None:
        self.loaded, self.config = loaded, config
        self._called = reached(loaded, linear_layers(loaded))

    def footprint(self, number: int) -> Footprint:
        """Nothing in memory; on disk `bits` for each packed weight, and `number` bytes for all else.

        The scales of NF4 with double quantization are of 8 bits for each 64 weights.
        """
        weights = sum(p.numel() for p in self.loaded.model.parameters())
        layers = linear_layers(self.loaded)
        packed = sum(layers[name].weight.numel() for name in self._names())
        return Footprint(0, packed * self.config.bits // 8 + packed // 64 + number * (weights - packed))

    def summary(self) -> str:
        """How many layers are packed."""
        return f"{len(self._names())} linear layers in {self.config.bits} bits, by bitsandbytes"

    def finish(self) -> Mapping[str, Any]:
        """Pack; how many layers were, and how many were left."""
        model = self.loaded.model
        names, linear = self._names(), [m for m in model.modules() if isinstance(m, nn.Linear)]
        pack(model, names, self.config.bits)
        left = len(linear) - len(names)
        console.info(f"{len(names)} linear layers in {self.config.bits} bits, {left} left in full")
        return {"packed_layers": len(names), "full_layers": left}

    def _names(self) -> list[str]:
        """Plain linear layers that are called; in 8 bits without those that transformers does not open (T5's `wo`).

        The weight of a layer that is not called may be read raw, as that of a Mamba's `dt_proj` is by transformers.
        """
        kept = tuple(getattr(self.loaded.model, "_keep_in_fp32_modules", None) or ()) if self.config.bits == 8 else ()
        layers = {name for name, layer in linear_layers(self.loaded).items() if is_plain(layer)}
        return [name for name in self._called if name in layers and not name.endswith((*kept, "dt_proj"))]

    def save(self, folder: Path) -> None:
        """A folder of bitsandbytes' layout; a head that was never trained stays out of it."""
        model = self.loaded.model
        model.save_pretrained(folder, save_original_format=False)
        if self.loaded.missing_head and (absent := self.loaded.family.head(model)):
            (path,) = weight_files(folder)
            kept = {name: tensor for name, tensor in load_tensors(path).items() if name not in absent}
            save_tensors(path, kept, {"format": "pt"})

    def problem(self, folder: Path) -> str | None:
        """Whether it does not open, or answers otherwise than the model that was saved there."""
        return reopened_otherwise(folder, self.loaded)
