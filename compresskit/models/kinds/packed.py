"""Checkpoints whose weights transformers keeps quantized (bitsandbytes, compressed-tensors, GPTQ, …)."""

from __future__ import annotations

import importlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from compresskit.checkpoint.store import read_safetensors_metadata, weight_files
from compresskit.errors import InputError, MissingError
from compresskit.models.family import Family
from compresskit.models.folder import first_line
from compresskit.models.kind import Matrix
from compresskit.models.matrices import IN_BLOCK, dtype_name, in_order

# The packages behind the methods whose own name is not their package's.
PACKAGES: Mapping[str, str] = {"awq": "gptqmodel", "gptq": "gptqmodel optimum", "quanto": "optimum-quanto"}
# The attribute by which bitsandbytes 0.50 decides to repack a layer's 4-bit weights.
PACKS = "support_avx512bf16_for_cpu"

# bitsandbytes says at every single int8 product that it casts to fp16.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def method_name(quantization: Mapping[str, Any]) -> str:
    """A short name of how a checkpoint is quantized: `bnb-4bit`, `bnb-8bit`, else transformers' name of the method."""
    for bits in ("4bit", "8bit"):
        if quantization.get(f"load_in_{bits}"):
            return f"bnb-{bits}"
    return str(quantization.get("quant_method"))


def method_of(config: PretrainedConfig) -> str:
    """`method_name` of a model's configuration."""
    return method_name(config.quantization_config)


def packed_matrices(folder: Path) -> list[Matrix]:
    """The matrices of repeated blocks that a folder's packed weights stand for, by layer and name.

    Those of bitsandbytes in 4 bits have their shape and the table of their values beside them; integers of two
    dimensions stand for one weight each. How many weights of any other packing are zero is not told.
    """
    return in_order(matrix for path in weight_files(folder) for matrix in _packed_matrices(path))


# Tensors that only tell how the weight beside them is packed.
_COMPANIONS = re.compile(r"weight_(format|scale|shape|zero_point|g_idx)$")
_STATE = ".quant_state.bitsandbytes__"


def _packed_matrices(path: Path) -> Iterator[Matrix]:
    read_safetensors_metadata(path)
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        states = {name.partition(_STATE)[0]: name for name in names if _STATE in name}
        for name in sorted(names):
            if not IN_BLOCK.search(name) or _COMPANIONS.search(name):
                continue
            tensor = file.get_tensor(name)
            if name in states:
                yield _four_bits(name, tensor, file.get_tensor(f"{name}.quant_map"), file.get_tensor(states[name]))
            elif tensor.ndim == 2 and name.endswith(_WHOLE):
                remaining = int(torch.count_nonzero(tensor))
                yield Matrix(name, tuple(tensor.shape), dtype_name(tensor), remaining, tensor.numel())
            elif f"{name.removesuffix('_packed')}_shape" in names:
                shape = tuple(file.get_tensor(f"{name.removesuffix('_packed')}_shape").tolist())
                yield Matrix(name, shape, dtype_name(tensor), None, math.prod(shape))


# Under this name a number of a file is a weight; packed ones are called weight_packed, qweight, and the like.
_WHOLE = ".weight"


def _four_bits(name: str, packed: Tensor, values: Tensor, state: Tensor) -> Matrix:
    """Two weights a byte, each the number of one of 16 `values`; `state` is bitsandbytes' JSON, as bytes."""
    shape = tuple(json.loads(bytes(state.tolist()))["shape"])
    codes = torch.stack((packed.flatten() >> 4, packed.flatten() & 15), dim=1).flatten()[: math.prod(shape)]
    counts = torch.bincount(codes.int(), minlength=len(values))
    return Matrix(name, shape, "4 bit", int(counts[values != 0].sum()), math.prod(shape))


def load_quantized(
    family: Family, folder: Path, config: PretrainedConfig, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, set[str]]:
    """Open a quantized checkpoint on a device; also the names of parameters that it lacks.

    `dtype` is that of whatever is not quantized. Raises InputError for a method that transformers does not know,
    MissingError where its package or the hardware that it needs is not here.
    """
    method = _known_method(folder, config)
    try:
        # bitsandbytes takes the GPU by itself where there is one.
        model, missing = family.load(folder, config, dtype)
    except ImportError as error:
        raise MissingError(
            f"{folder} is quantized by {method}, whose package is not here ({first_line(error)}); "
            f"pip install {PACKAGES.get(method, method)}"
        ) from error
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        if "GPU" in str(error) or "CUDA" in str(error):
            raise MissingError(
                f"{folder} is quantized by {method}, which does not run here ({first_line(error)}); use one with a GPU"
            ) from error
        raise
    for layer in model.modules():
        _keep_unpacked(layer)
        _convert(layer, dtype)
        if hasattr(getattr(layer, "weight", None), "SCB"):
            # A module's `to` would leave the scales of int8 weights behind; that of the weights takes them along.
            layer.weight = layer.get_parameter("weight").to(device)
    module: nn.Module = model  # transformers wraps `to` in a way that hides its types
    module.to(device)
    return model, missing


@torch.no_grad()
def unpacked(weight: nn.Parameter) -> Tensor:
    """The weights that a 4-bit parameter of bitsandbytes stands for, of shape (out, in)."""
    bitsandbytes: Any = importlib.import_module("bitsandbytes")
    state: Any = weight.quant_state  # type: ignore[attr-defined]  # bitsandbytes' own kind of parameter
    if getattr(state, "packing_format_for_cpu", False):
        # Only its product reads weights that were repacked for a CPU.
        weights: Tensor = bitsandbytes.matmul_4bit(torch.eye(state.shape[1]), weight, quant_state=state).T
    else:
        weights = bitsandbytes.functional.dequantize_4bit(weight.data, state)
    return weights


def hides_weights(model: nn.Module) -> bool:
    """Whether a model holds quantized weights in tensors that tell neither how many they are nor which are zero.

    bitsandbytes' can be read, and those of compressed-tensors from the first forward on, which unpacks them.
    """
    method = getattr(model, "quantization_method", None)
    if method == "compressed-tensors":
        return any(name.endswith("weight_packed") for name, _ in model.named_parameters())
    return method not in (None, "bitsandbytes")


def is_companion(module: nn.Module, name: str) -> bool:
    """Whether a parameter of a module only says how compressed-tensors quantized its weight (a scale, a shape)."""
    return getattr(module, "quantization_scheme", None) is not None and name not in ("weight", "bias")


def _known_method(folder: Path, config: PretrainedConfig) -> str:
    from transformers.quantizers.auto import AutoHfQuantizer

    quantization: Any = config.quantization_config
    method = "bitsandbytes" if method_of(config).startswith("bnb-") else method_of(config)
    if not AutoHfQuantizer.supports_quant_method({"quant_method": method, **quantization}):
        raise InputError(
            f"{folder} is quantized by {method}, which this transformers does not know; "
            "write the checkpoint anew with the tool that quantized it"
        )
    return method


def _convert(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the floating-point parameters of a module one format.

    transformers 5 leaves those called `weight` as they were saved, and converts the rest, biases too, so that the first
    product fails.
    """
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.is_floating_point() and not is_companion(module, name):
            parameter.data = parameter.data.to(dtype)


def _keep_unpacked(module: nn.Module) -> None:
    """Keep a 4-bit layer from being repacked for a CPU with AVX512-BF16 where its shape does not allow that.

    bitsandbytes 0.50 repacks on the first forward, in blocks of 32 rows, with whole blocks of scales in each row, and
    fails an assertion on any other shape: a question-answering head has two rows.
    """
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    if state is not None and hasattr(module, PACKS):
        rows, columns = state.shape
        if rows % 32 or columns % state.blocksize:
            setattr(module, PACKS, False)
