"""ONNX checkpoints in the layout of Optimum: `model.onnx`, its configuration and tokenizer; run by onnxruntime."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from compresskit.errors import InputError, MissingError
from compresskit.models.device import resolve_device
from compresskit.models.folder import opening

OUTPUTS = ("start_logits", "end_logits")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
# Nodes that take quantized weights, as their names stand in the file.
NODES: Mapping[bytes, str] = {
    b"MatMulNBits": "onnx-int4",
    **dict.fromkeys((b"MatMulInteger", b"DequantizeLinear", b"QLinearMatMul", b"QAttention"), "onnx-int8"),
}
_CHUNK = 1 << 20
INTEGERS = {"tensor(int64)": torch.int64, "tensor(int32)": torch.int32}


def onnx_file(folder: Path) -> Path | None:
    """The graph of an ONNX checkpoint: `model.onnx`, or the only one; None where there is none.

    Raises InputError where there are several and none is called `model.onnx`.
    """
    files = sorted(folder.glob("*.onnx"))
    if len(files) <= 1 or folder / "model.onnx" in files:
        return next((file for file in files if file.name == "model.onnx"), files[0] if files else None)
    names = ", ".join(file.name for file in files)
    raise InputError(f"{folder} holds several ONNX files ({names}); give a folder with one, or name one model.onnx")


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
    """A question-answering graph that is asked as a torch model is: int64 tensors in, start and end logits out.

    It runs on CUDA where `device` is that and onnxruntime can, with torch's number of threads on a CPU.

    Raises MissingError without onnxruntime or its CUDA provider, InputError for a file that does not open or a graph
    that is no question-answering model for inputs of any length.
    """

    def __init__(self, path: Path, config: PretrainedConfig, device: torch.device) -> None:
        super().__init__()
        self.path = path
        self.config = config
        self.device = device
        self._session = _session(path, device)
        self._types = {entry.name: INTEGERS.get(entry.type) for entry in self._session.get_inputs()}
        self._check()

    def forward(self, **inputs: Tensor) -> QuestionAnsweringModelOutput:
        """Start and end logits of shape (batch, length) on the reader's device; inputs of shape (batch, length)."""
        inputs.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]))
        fed = {name: inputs[name].to("cpu", dtype).numpy() for name, dtype in self._types.items()}
        logits = (torch.from_numpy(array).to(self.device) for array in self._session.run(list(OUTPUTS), fed))
        return QuestionAnsweringModelOutput(start_logits=next(logits), end_logits=next(logits))

    def count_parameters(self) -> tuple[int, int] | None:
        """How many weights the graph holds, and how many are not zero; None without the package onnx."""
        try:
            from compresskit.models import onnx_weights
        except ImportError:
            return None
        return onnx_weights.count(self.path)

    def _check(self) -> None:
        outputs = {entry.name for entry in self._session.get_outputs()}
        if not outputs.issuperset(OUTPUTS):
            found = ", ".join(sorted(outputs))
            raise InputError(f"{self.path} is no question-answering model: it has no start and end logits, but {found}")
        if odd := sorted(name for name, dtype in self._types.items() if name not in INPUTS or dtype is None):
            raise InputError(f"{self.path} wants the input {odd[0]}, which no tokenizer gives; export it without")
        shapes = [entry.shape for entry in self._session.get_inputs()]
        if any(isinstance(size, int) for shape in shapes for size in shape):
            raise InputError(f"{self.path} takes inputs of shape {shapes[0]} only; export it with dynamic axes")


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
