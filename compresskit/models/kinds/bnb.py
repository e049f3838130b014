"""bitsandbytes: linear layers are packed in 4 or 8 bits, read, and stood on by what learns."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.quantizers.base import HfQuantizer

from compresskit import packages
from compresskit.errors import InputError
from compresskit.models.kind import Matrix

# The attribute by which bitsandbytes 0.50 decides to repack a layer's 4-bit weights.
REPACKS = "support_avx512bf16_for_cpu"


def library() -> Any:
    """The package; MissingError where it is not here, or does not run here."""
    return packages.needed("bitsandbytes", "a checkpoint that is packed in 4 or 8 bits")


def settings(bits: int, skipped: Iterable[str]) -> BitsAndBytesConfig:
    """Transformers' description of the packing; `skipped` are the layers that stay as they are.

    4 bits are NF4 with double quantization (Dettmers et al. 2023, arXiv 2305.14314), 8 bits are LLM.int8 (Dettmers et
    al. 2022, arXiv 2208.07339).
    """
    common = {"llm_int8_skip_modules": sorted(skipped)}
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, **common)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        **common,
    )


@torch.no_grad()
def pack(model: PreTrainedModel, names: Iterable[str], bits: int) -> None:
    """Pack the linear layers `names` of a model on the CPU in place, so that it saves and trains as a packed one.

    Raises MissingError where bitsandbytes is not here.
    """
    bitsandbytes, names = library(), set(names)
    in_fp32 = tuple(getattr(model, "_keep_in_fp32_modules", None) or ())
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name in names:
        parent, _, child = name.rpartition(".")
        # T5 casts its hidden states to the number format of a packed `wo`: any but fp32 would leave garbage.
        storage = torch.float32 if name.endswith(in_fp32) else torch.uint8
        layer = model.get_submodule(name)
        packed = _in_4_bits(bitsandbytes, layer, storage) if bits == 4 else _in_8_bits(bitsandbytes, layer)
        packed.bias = layer.bias
        setattr(model.get_submodule(parent), child, packed)
    quantizer: Any = AutoHfQuantizer.from_config(settings(bits, linear - names), pre_quantized=False)
    loaded: Any = model  # what transformers puts down in a model that it has packed itself
    loaded.hf_quantizer = quantizer
    loaded.config.quantization_config = quantizer.quantization_config
    loaded.quantization_method = quantizer.quantization_config.quant_method
    loaded.is_quantized = True
    setattr(loaded, f"is_loaded_in_{bits}bit", True)


def _in_4_bits(bitsandbytes: Any, layer: Any, storage: torch.dtype) -> Any:
    how = {"quant_type": "nf4", "quant_storage": storage}
    made = bitsandbytes.nn.Linear4bit(*_shape(layer), compute_dtype=torch.float32, device="meta", **how)
    weight = layer.weight.detach()
    made.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, module=made, **how).to("cpu")
    return made


def _in_8_bits(bitsandbytes: Any, layer: Any) -> Any:
    how = {"has_fp16_weights": False}
    made = bitsandbytes.nn.Linear8bitLt(*_shape(layer), threshold=6.0, device="meta", **how)
    made.weight = bitsandbytes.nn.Int8Params(layer.weight.detach(), requires_grad=False, **how).to("cpu")
    return made


def _shape(layer: Any) -> tuple[int, int, bool]:
    return layer.in_features, layer.out_features, layer.bias is not None


@contextlib.contextmanager
def open_packed(names: Collection[str]) -> Iterator[None]:
    """Within it, transformers opens the layers `names` as packed ones.

    It would keep some of them in fp32 for the sake of fp16, such as T5's `wo`, whether their file has packed them or
    not.
    """
    known = HfQuantizer.get_modules_to_not_convert

    def asked(model: Any, skip_modules: Any = None, keep_in_fp32_modules: Any = None, *rest: Any, **more: Any) -> Any:
        kept = [kept for kept in keep_in_fp32_modules or () if not any(name.endswith(kept) for name in names)]
        return known(model, skip_modules, kept, *rest, **more)

    quantizers: Any = HfQuantizer
    quantizers.get_modules_to_not_convert = staticmethod(asked)
    try:
        yield
    finally:
        quantizers.get_modules_to_not_convert = staticmethod(known)


def move(model: nn.Module, device: torch.device) -> None:
    """Bring a packed model to a device; a module's `to` would leave the scales of 8-bit weights behind."""
    layer: Any
    for layer in model.modules():
        if hasattr(getattr(layer, "weight", None), "SCB"):
            layer.weight = layer.weight.to(device)
    model.to(device)


def check_packed(folder: Path, model: nn.Module) -> None:
    """InputError where a layer is one of bitsandbytes, as config.json says, and the weights in its file are plain."""
    bitsandbytes = library()
    for name, layer in model.named_modules():
        in_4_bits = isinstance(layer, bitsandbytes.nn.Linear4bit) and _state(layer) is None
        in_8_bits = isinstance(layer, bitsandbytes.nn.Linear8bitLt) and layer.weight.dtype != torch.int8
        if in_4_bits or in_8_bits:
            raise InputError(
                f"{folder / 'config.json'} says that {name} is packed by bitsandbytes, and its weights are not; "
                "copy or make the checkpoint again"
            )


def compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Let the 4-bit layers unpack to numbers of `dtype`, and multiply in them.

    Those whose storage is fp32 are what a model's class would keep in fp32, as they overflow in fp16: they compute so.
    """
    for module in model.modules():
        state = _state(module)
        if state is not None:
            layer: Any = module
            precise = dtype == torch.float16 and layer.weight.is_floating_point()
            layer.compute_dtype = state.dtype = torch.float32 if precise else dtype


def keep_in_place(model: nn.Module) -> None:
    """Keep 4-bit layers as they are stored, so that gradients pass through them.

    On a CPU with AVX512-BF16, bitsandbytes 0.50 repacks a layer for good at its first pass in evaluation mode; no
    gradient passes through what was repacked, and nothing is said of it.
    """
    functional = library().functional
    for module in model.modules():
        state = _state(module)
        if state is not None:
            layer: Any = module
            setattr(layer, REPACKS, False)
            if getattr(state, "packing_format_for_cpu", False):
                data, state = functional._convert_weight_packed_for_cpu_inverse(layer.weight.data, state)
                layer.weight.data, layer.weight.quant_state = data, state


def follow_autocast(model: nn.Module) -> None:
    """Let packed layers answer in autocast's number format, as every other linear layer does within it.

    They answer in the format of what they are given. That is fp32 behind a norm, so that all that follows them would be
    kept for the gradients at twice the bytes.
    """
    bitsandbytes = library()
    for module in model.modules():
        if isinstance(module, (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)):
            module.register_forward_pre_hook(_cast)


def _cast(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    inputs, *rest = given
    kind = inputs.device.type
    if not torch.is_autocast_enabled(kind):
        return None
    return inputs.to(torch.get_autocast_dtype(kind)), *rest


def keep_unfit(module: nn.Module) -> None:
    """Keep a 4-bit layer from being repacked for a CPU with AVX512-BF16 where that does not go well.

    bitsandbytes 0.50 repacks in blocks of 32 rows, with whole blocks of scales in each row, and fails an assertion on
    any other shape: a question-answering head has two rows. What it repacks is of whole numbers, to which T5 would cast
    its hidden states where the packed weight is that of `wo`, kept as fp32.
    """
    state = _state(module)
    if state is not None:
        rows, columns = state.shape
        if rows % 32 or columns % state.blocksize or module.get_parameter("weight").is_floating_point():
            setattr(module, REPACKS, False)


def _state(module: nn.Module) -> Any:
    """How the weight of a 4-bit layer is packed; None for any other module."""
    return getattr(getattr(module, "weight", None), "quant_state", None) if hasattr(module, REPACKS) else None


@torch.no_grad()
def unpacked(weight: nn.Parameter) -> Tensor:
    """The weights that a 4-bit parameter stands for, of shape (out, in)."""
    bitsandbytes = library()
    state: Any = weight.quant_state  # type: ignore[attr-defined]  # bitsandbytes' own kind of parameter
    if getattr(state, "packing_format_for_cpu", False):
        # Only its product reads weights that were repacked for a CPU.
        weights: Tensor = bitsandbytes.matmul_4bit(torch.eye(state.shape[1]), weight, quant_state=state).T
    else:
        weights = bitsandbytes.functional.dequantize_4bit(weight.data, state)
    return weights


def four_bits(name: str, packed: Tensor, values: Tensor, state: Tensor) -> Matrix:
    """The matrix `name` of a file: two weights a byte, each the number of one of 16 `values`.

    `state` is bitsandbytes' JSON, as bytes.
    """
    shape = tuple(json.loads(bytes(state.tolist()))["shape"])
    stored = packed.contiguous().view(torch.uint8).flatten()
    codes = torch.stack((stored >> 4, stored & 15), dim=1).flatten()[: math.prod(shape)]
    counts = torch.bincount(codes.int(), minlength=len(values))
    return Matrix(name, shape, "4 bit", int(counts[values != 0].sum()), math.prod(shape))
