"""ONNX graphs that are asked as torch models are; onnxruntime runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.utils.generic import ModelOutput

from compresskit.models.folder import opening
from compresskit.models.kinds.onnx_session import Session

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Nodes that take quantized weights, as their names stand in the file.
NODES: Mapping[bytes, str] = {
    b"MatMulNBits": "onnx-int4",
    **dict.fromkeys((b"MatMulInteger", b"DequantizeLinear", b"QLinearMatMul", b"QAttention"), "onnx-int8"),
}
_CHUNK = 1 << 20


def method_of_graph(path: Path) -> str:
    """`onnx`, or `onnx-int8` or `onnx-int4` where the graph has nodes that compute with such weights."""
    with path.open("rb") as file:
        overlap, chunk = b"", file.read(_CHUNK)
        while chunk:
            for node, method in NODES.items():
                if node in overlap + chunk:
                    return method
            overlap, chunk = chunk[-max(map(len, NODES)) :], file.read(_CHUNK)
    return "onnx"


class OnnxReader(nn.Module):
    """A graph that is asked as a torch model is: int64 tensors in, the named `outputs` out.

    Raises MissingError without onnxruntime or its CUDA provider, InputError for a file that does not open or a graph
    that lacks one of the outputs, or takes inputs of one length only.
    """

    def __init__(self, path: Path, config: PretrainedConfig, device: torch.device, outputs: Sequence[str]) -> None:
        super().__init__()
        self.outputs = tuple(outputs)
        self.config = config
        self.device = device
        self._session = Session(path, device)
        self._session.check(INPUTS, outputs, "export it with its question-answering head")

    def forward(self, **inputs: Tensor) -> ModelOutput:
        """The outputs by name, on the reader's device; inputs of shape (batch, length)."""
        inputs.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]))
        return ModelOutput(self._session.run(inputs, self.outputs))


def count_weights(paths: Sequence[Path]) -> tuple[int, int] | None:
    """How many weights graphs hold in all, and how many are not zero; see `onnx_weights.count`.

    None where they are packed, or onnx is missing. Raises InputError where a graph is damaged.
    """
    try:
        from compresskit.models.kinds import onnx_weights
    except ImportError:
        return None
    with opening(f"the weights of {paths[0].parent} cannot be counted", "a graph is damaged: copy or export it again"):
        return onnx_weights.count(paths)
