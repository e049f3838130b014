"""Checkpoints whose weights transformers keeps quantized (bitsandbytes, compressed-tensors, GPTQ, …)."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from compresskit import packages
from compresskit.checkpoint.store import read_safetensors_metadata, tensor_shapes, weight_files
from compresskit.errors import InputError, MissingError
from compresskit.models.family import Family
from compresskit.models.folder import first_line, opening
from compresskit.models.kind import Matrix
from compresskit.models.kinds.bnb import check_packed, compute_in, four_bits, keep_unfit, move, open_packed
from compresskit.models.kinds.int8 import METHOD, SCALE, is_int8, is_our_layout, load_int8
from compresskit.models.matrices import IN_BLOCK, dtype_name, in_order

# The packages behind the methods whose own name is not their package's.
PACKAGES: Mapping[str, str] = {"awq": "gptqmodel", "gptq": "gptqmodel", "quanto": "optimum-quanto"}

_MEND = "they are damaged: copy or download the checkpoint again"

# bitsandbytes says at every single int8 product that it casts to fp16.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def method_name(quantization: Mapping[str, Any]) -> str:
    """A short name of how a checkpoint is quantized: `bnb-4bit`, `bnb-8bit`, `int8` (ours), else transformers'."""
    if is_our_layout(quantization):
        return METHOD
    for bits in ("4bit", "8bit"):
        if quantization.get(f"load_in_{bits}"):
            return f"bnb-{bits}"
    return str(quantization.get("quant_method"))


def method_of(config: PretrainedConfig) -> str:
    """`method_name` of a configuration, as it was read or as an opened model has it."""
    quantization = config.quantization_config
    return method_name(quantization if isinstance(quantization, dict) else quantization.to_dict())


def packed_matrices(folder: Path) -> list[Matrix]:
    """The matrices of repeated blocks that a folder's packed weights stand for, by layer and name.

    Those of bitsandbytes in 4 bits have their shape and the table of their values beside them; integers of two
    dimensions stand for one weight each. How many weights of any other packing are zero is not told. Raises InputError
    where what tells of a packing is damaged.
    """
    with opening(f"the packed weights of {folder} cannot be read", _MEND):
        return in_order(matrix for path in weight_files(folder) for matrix in _packed_matrices(path))


# Tensors that only tell how the weight beside them is packed.
_COMPANIONS = re.compile(r"weight_(format|scale|shape|zero_point|g_idx)$")
_STATE = ".quant_state.bitsandbytes__"
# What bitsandbytes keeps beside a weight in 4 bits, or in 8.
_PACKED = re.compile(rf"{re.escape(_STATE)}|\.SCB$")


def _packed_matrices(path: Path) -> Iterator[Matrix]:
    read_safetensors_metadata(path)
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        states = {name.partition(_STATE)[0]: name for name in names if _STATE in name}
        for name in sorted(names):
            if not IN_BLOCK.search(name) or _COMPANIONS.search(name) or name.removesuffix(SCALE) in names - {name}:
                continue
            tensor = file.get_tensor(name)
            if name in states:
                yield four_bits(name, tensor, file.get_tensor(f"{name}.quant_map"), file.get_tensor(states[name]))
            elif tensor.ndim == 2 and (name.endswith(_WHOLE) or name + SCALE in names):
                remaining = int(torch.count_nonzero(tensor))
                yield Matrix(name, tuple(tensor.shape), dtype_name(tensor), remaining, tensor.numel())
            elif f"{name.removesuffix('_packed')}_shape" in names:
                shape = tuple(file.get_tensor(f"{name.removesuffix('_packed')}_shape").tolist())
                yield Matrix(name, shape, dtype_name(tensor), None, math.prod(shape))


# Under this name a number of a file is a weight; packed ones are called weight_packed, qweight, and the like.
_WHOLE = ".weight"


def load_quantized(
    family: Family, folder: Path, config: PretrainedConfig, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, set[str]]:
    """Open a quantized checkpoint on a device; also the names of parameters that it lacks.

    `dtype` is that of whatever is not quantized. Raises InputError for a method that transformers does not know,
    MissingError where its package or the hardware that it needs is not here.
    """
    if is_int8(config):
        return load_int8(family, folder, config, dtype, device)
    method = _known_method(folder, config)
    if method == "bitsandbytes" and not any(_PACKED.search(name) for name, _ in tensor_shapes(folder)):
        raise InputError(
            f"{folder}/config.json tells of weights that bitsandbytes packed, and its files hold none; "
            "take quantization_config out of it, or copy the packed weights there"
        )
    try:
        # bitsandbytes takes the GPU by itself where there is one.
        with open_packed(_layers_in_4_bits(folder)):
            model, missing = family.load(folder, config, dtype)
    except ImportError as error:
        raise MissingError(
            f"{folder} is quantized by {method}, whose package is not here ({first_line(error)}); {_mend(method)}"
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
        keep_unfit(layer)
        _convert(layer, dtype)
    check_packed(folder, model)
    compute_in(model, dtype)
    move(model, device)
    if hasattr(model, "hf_device_map"):
        del model.hf_device_map  # it tells where transformers had put the model
    return model, missing


def _mend(method: str) -> str:
    """What installs the package behind a method."""
    known = next((each for each in packages.PACKAGES if each.name == PACKAGES.get(method, method)), None)
    return f"pip install {method}" if known is None else packages.command(known)


def hides_weights(model: nn.Module) -> bool:
    """Whether a model holds quantized weights in tensors that tell neither how many they are nor which are zero.

    bitsandbytes' can be read, and those of compressed-tensors from the first forward on, which unpacks them.
    """
    method = getattr(model, "quantization_method", None)
    if method == "compressed-tensors":
        return any(name.endswith("weight_packed") for name, _ in model.named_parameters())
    return method not in (None, "bitsandbytes", METHOD)


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


def _layers_in_4_bits(folder: Path) -> set[str]:
    """The names of the layers that bitsandbytes packed in 4 bits."""
    layers: set[str] = set()
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        layers.update(name.partition(_STATE)[0].removesuffix(".weight") for name in names if _STATE in name)
    return layers


def _convert(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the floating-point parameters of a module one format.

    transformers 5 leaves those called `weight` as they were saved, and converts the rest, biases too, so that the first
    product fails.
    """
    for name, parameter in module.named_parameters(recurse=False):
        packed = getattr(parameter, "quant_state", None) is not None
        if parameter.is_floating_point() and not packed and not is_companion(module, name):
            parameter.data = parameter.data.to(dtype)
