"""An ONNX graph that is asked as a torch model is; onnxruntime runs it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.utils.generic import ModelOutput

from compresskit.errors import InputError, MissingError
from compresskit.models.device import resolve_device
from compresskit.models.folder import opening

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
# Nodes that take quantized weights, as their names stand in the file.
NODES: Mapping[bytes, str] = {
    b"MatMulNBits": "onnx-int4",
    **dict.fromkeys((b"MatMulInteger", b"DequantizeLinear", b"QLinearMatMul", b"QAttention"), "onnx-int8"),
}
_CHUNK = 1 << 20
INTEGERS = {"tensor(int64)": torch.int64, "tensor(int32)": torch.int32}


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


def reader_device(name: str) -> torch.device:
    """Where a graph runs for a device's name: as for torch, but `auto` is the CPU where onnxruntime has no CUDA."""
    device = resolve_device(name)
    without = device.type == "cuda" and PROVIDERS["cuda"] not in _runtime().get_available_providers()
    return torch.device("cpu") if name == "auto" and without else device


class OnnxReader(nn.Module):
    """A graph that is asked as a torch model is: int64 tensors in, the named `outputs` out.

    It runs on CUDA where `device` is that and onnxruntime can, with torch's number of threads on a CPU.

    Raises MissingError without onnxruntime or its CUDA provider, InputError for a file that does not open or a graph
    that lacks one of the outputs, or takes inputs of one length only.
    """

    def __init__(self, path: Path, config: PretrainedConfig, device: torch.device, outputs: Sequence[str]) -> None:
        super().__init__()
        self.path = path
        self.outputs = tuple(outputs)
        self.config = config
        self.device = device
        self._session = _session(path, device)
        self._types = {entry.name: INTEGERS.get(entry.type) for entry in self._session.get_inputs()}
        self._check()

    def forward(self, **inputs: Tensor) -> ModelOutput:
        """The outputs by name, on the reader's device; inputs of shape (batch, length)."""
        inputs.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]))
        fed = {name: inputs[name].to("cpu", dtype).numpy() for name, dtype in self._types.items()}
        arrays = self._session.run(list(self.outputs), fed)
        found = {
            name: torch.from_numpy(array).to(self.device) for name, array in zip(self.outputs, arrays, strict=True)
        }
        return ModelOutput(found)

    def _check(self) -> None:
        outputs = {entry.name for entry in self._session.get_outputs()}
        if lacking := [name for name in self.outputs if name not in outputs]:
            found = ", ".join(sorted(outputs))
            raise InputError(
                f"{self.path} is not a question-answering model: it gives {found}, and not {' and '.join(lacking)}; "
                "export it with its question-answering head"
            )
        if odd := sorted(name for name, dtype in self._types.items() if name not in INPUTS or dtype is None):
            raise InputError(f"{self.path} wants the input {odd[0]}, which no tokenizer gives; export it without")
        shapes = [entry.shape for entry in self._session.get_inputs()]
        if any(isinstance(size, int) for shape in shapes for size in shape):
            raise InputError(f"{self.path} takes inputs of shape {shapes[0]} only; export it with dynamic axes")


def count_weights(path: Path) -> tuple[int, int] | None:
    """How many weights a graph holds, and how many are not zero; None where they are packed, or onnx is missing."""
    try:
        from compresskit.models.kinds import onnx_weights
    except ImportError:
        return None
    return onnx_weights.count(path)


def _session(path: Path, device: torch.device) -> Any:
    """An onnxruntime session; InputError for a file that does not open, MissingError where there is no such device."""
    onnxruntime, provider = _runtime(), PROVIDERS[device.type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the cores from the tokenizer, which works at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong comes as an exception
    if provider in onnxruntime.get_available_providers():
        with opening(f"{path} does not open in onnxruntime", "it is damaged, or lacks its .onnx_data: copy it again"):
            session = onnxruntime.InferenceSession(path, options, providers=[provider])
        # A provider whose libraries do not load is left out in silence.
        if provider in session.get_providers():
            return session
    raise MissingError(
        f"{path}: the onnxruntime here has no working {provider}; use --device cpu, "
        "or install onnxruntime-gpu in its place"
    )


def _runtime() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingError(
            "an ONNX graph needs onnxruntime; install it with: pip install 'compresskit[onnx]'"
        ) from error
