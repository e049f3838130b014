"""A session of onnxruntime that takes and gives tensors of torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from compresskit import console, packages
from compresskit.errors import InputError, MissingError
from compresskit.models.device import resolve_device
from compresskit.models.folder import opening

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
TYPES = {
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
}


def graph_device(name: str) -> torch.device:
    """Where a graph runs for a device's name: as for torch, but `auto` is the CPU where onnxruntime has no CUDA.

    That is told, since onnxruntime does not tell it (onnxruntime#23372).
    """
    device, runtime = resolve_device(name), _runtime()
    if name != "auto" or PROVIDERS[device.type] in runtime.get_available_providers():
        return device
    console.warn(
        f"the onnxruntime here has no {PROVIDERS[device.type]}: graphs run on the CPU; "
        "install onnxruntime-gpu in its place"
    )
    return torch.device("cpu")


class Session:
    """A graph that onnxruntime runs on `device`, on a CPU with torch's number of threads.

    `types` are the number formats of its inputs by name (None for one that torch has not), `outputs` the names of what
    it gives.

    Raises MissingError without onnxruntime or its CUDA provider, InputError for a file that does not open.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = path, device
        self._session = _session(path, device)
        self._shapes = {entry.name: list(entry.shape) for entry in self._session.get_inputs()}
        self.types = {entry.name: TYPES.get(entry.type) for entry in self._session.get_inputs()}
        self.outputs = [entry.name for entry in self._session.get_outputs()]

    def check(self, inputs: Collection[str], outputs: Sequence[str], mend: str) -> None:
        """InputError for a graph that lacks one of `outputs`, wants more than `inputs`, or takes one length only."""
        if lacking := [name for name in outputs if name not in self.outputs]:
            raise InputError(
                f"{self.path} gives {', '.join(sorted(self.outputs))}, and not {' and '.join(lacking)}; {mend}"
            )
        if odd := sorted(name for name, dtype in self.types.items() if name not in inputs or dtype is None):
            raise InputError(f"{self.path} wants the input {odd[0]}, which is not known here; export it without")
        for shape in self._shapes.values():
            # Keys and values of the past are (batch, heads, length, width).
            batch, length = shape[0], shape[2 if len(shape) == 4 else 1]
            # A decoder with a past reads one token at a time.
            if isinstance(batch, int) or (isinstance(length, int) and length != 1):
                raise InputError(f"{self.path} takes inputs of shape {shape} only; export it with dynamic axes")

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """The named outputs, on the session's device; `inputs` may hold more than the graph takes.

        Nothing is copied that is on that device, contiguous and of the graph's number format.
        """
        ort, binding = _runtime(), self._session.io_binding()
        for name, dtype in self.types.items():
            tensor = inputs[name].detach().to(self.device, dtype).contiguous()
            binding.bind_ortvalue_input(name, ort.OrtValue.from_dlpack(tensor))
        for name in outputs:
            binding.bind_output(name, self.device.type, _index(self.device))
        if self.device.type == "cuda":  # onnxruntime computes in a stream of its own
            torch.cuda.current_stream().synchronize()
        self._session.run_with_iobinding(binding)
        return {name: from_dlpack(value) for name, value in zip(outputs, binding.get_outputs(), strict=True)}


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.type == "cuda" else 0


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
            where = {"device_id": _index(device)} if device.type == "cuda" else {}
            session = onnxruntime.InferenceSession(path, options, providers=[(provider, where)])
        # A provider whose libraries do not load is left out in silence.
        if provider in session.get_providers():
            return session
    raise MissingError(
        f"{path}: the onnxruntime here has no working {provider}; use --device cpu, "
        "or install onnxruntime-gpu in its place"
    )


def _runtime() -> ModuleType:
    return packages.needed("onnxruntime", "an ONNX graph")
