"""Checkpoints of our int8 weights: the layout of compressed-tensors (`int-quantized`), which two readers open.

Plain `from_pretrained` turns the weights into floating-point numbers while it loads, with the package
compressed-tensors. Here they stay in 8 bits in memory, and no package is needed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from compresskit.checkpoint.coded import save_coded
from compresskit.checkpoint.store import read_safetensors_metadata, save_tensors, weight_files
from compresskit.errors import InputError
from compresskit.models.family import Family
from compresskit.models.int8 import Activations, Int8Linear, Int8Output, compute, dequantize, is_plain, put, quantize
from compresskit.models.loaded import TrainableModel
from compresskit.models.mamba import is_mamba

# How our way of opening is called in memory. It is never written: without us transformers would not know it.
METHOD = "int8"
SCALE = "_scale"
INPUT_SCALE = ".input_scale"
_CODES = "I8"  # safetensors' name of their format
# Of our layout: all groups have such weights, and their inputs, if they have scales, such ones.
_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
_INPUTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor"}
# Smaller sides than this save nothing, and are of layers that decide much: a score, a relative position.
SMALLEST_SIDE = 16


def layout(model: nn.Module, names: Iterable[str], *, static: bool = False) -> dict[str, Any]:
    """The `quantization_config` of config.json for the weights `names` in 8 bits; `static` inputs have a scale too."""
    packed = {name.rpartition(".")[0] for name in names}
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)}
    weights = {**_WEIGHTS, "dynamic": False}
    groups: dict[str, Any] = {"group_0": {"targets": ["Linear", "Embedding"], "weights": weights}}
    if static:
        inputs = {**_INPUTS, "dynamic": False}
        groups = {
            "group_0": {"targets": ["Linear"], "weights": weights, "input_activations": inputs},
            "group_1": {"targets": ["Embedding"], "weights": weights},
        }
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": sorted(layers - packed),
        # Without it transformers would keep the codes, and unpack them beside, in one and a half times the bytes.
        "dequantize": True,
    }


def is_int8(config: PretrainedConfig) -> bool:
    """Whether a configuration as it was read is of this layout."""
    found = getattr(config, "quantization_config", None)
    return isinstance(found, dict) and is_our_layout(found)


def check_layout(config: PretrainedConfig) -> None:
    """ValueError where another way of opening quantized weights is about to take the codes of a BiLSTM for weights."""
    found: Any = getattr(config, "quantization_config", None)
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    if method not in (None, METHOD):
        raise ValueError("a BiLSTM in 8 bits opens from a folder alone; download it: hf download ID --local-dir DIR")


def is_our_layout(quantization: Mapping[str, Any]) -> bool:
    """Whether a `quantization_config` tells of weights as ours are: symmetric int8 with a scale for each channel."""
    groups = quantization.get("config_groups")
    if quantization.get("format") != "int-quantized" or not quantization.get("dequantize"):
        return False
    return isinstance(groups, dict) and bool(groups) and all(map(_is_our_group, groups.values()))


def _is_our_group(group: Any) -> bool:
    def matches(found: Any, wanted: Mapping[str, Any]) -> bool:
        return isinstance(found, dict) and all(found.get(name) == value for name, value in wanted.items())

    if not isinstance(group, dict) or not matches(group.get("weights"), _WEIGHTS):
        return False
    inputs = group.get("input_activations")
    return inputs is None or matches(inputs, {**_INPUTS, "dynamic": False})


def quantizable(loaded: TrainableModel) -> list[str]:
    """The weights to be kept in 8 bits: of linear layers, of tables of vectors, and whatever the family masks.

    A tied weight is named once. The head stays as it is: it decides the answers by small differences.
    """
    model, family = loaded.model, loaded.family
    left = family.head(model) | set(model.all_tied_weights_keys)
    names = [f"{name}.weight" for name, module in model.named_modules() if is_plain(module)]
    return [
        name
        for name in dict.fromkeys((*names, *family.weights(model)))
        if name not in left and min(model.get_parameter(name).shape) >= SMALLEST_SIDE
    ]


@torch.no_grad()
def pack(model: PreTrainedModel, names: Iterable[str], inputs: Mapping[str, Tensor] = MappingProxyType({})) -> None:
    """Keep the weights `names` of a model in 8 bits, and those that are tied to them.

    `inputs` are the scales (1,) of the layers whose inputs have one.
    """
    tied = sharing(model)
    for name in names:
        codes, scales = quantize(model.get_parameter(name))
        put(model, name, codes, scales)
        compute(model, name)
        layer = name.rpartition(".")[0]
        if layer in inputs:
            model.get_submodule(layer).input_scale = inputs[layer]
        for other in tied.get(name, ()):
            put(model, other, codes, scales, shared=True)
            _share(model, name, other)
    _show_numbers(model)


def _show_numbers(model: PreTrainedModel) -> None:
    """Let a Mamba's output over the vocabulary, which is read for its format, show one of numbers."""
    output = model.get_output_embeddings()
    if is_mamba(model) and isinstance(output, Int8Linear):
        Int8Output.turn(output, model.dtype)


def _share(model: nn.Module, name: str, other: str) -> None:
    """Let the layer of the weight `other` hold the very codes and scales of the weight `name`."""
    source, target = (model.get_submodule(each.rpartition(".")[0]) for each in (name, other))
    target.weight, target.weight_scale = source.weight, source.weight_scale


@torch.no_grad()
def round_to_8_bits(model: PreTrainedModel, names: Iterable[str]) -> None:
    """Round the weights `names` of a model to what 8 bits keep, and compute with them as before."""
    for name in names:
        weight = model.get_parameter(name)
        weight.copy_(dequantize(*quantize(weight)))


def linear_layers(model: PreTrainedModel, names: Iterable[str]) -> list[str]:
    """The linear layers that compute with the weights `names`, tied ones too."""
    tied = sharing(model)
    layers = [each.rpartition(".")[0] for name in names for each in (name, *tied.get(name, ()))]
    return [layer for layer in layers if isinstance(model.get_submodule(layer), nn.Linear)]


def sharing(model: PreTrainedModel) -> dict[str, list[str]]:
    """By the name of each weight the names under which others hold it too."""
    found: dict[str, list[str]] = {}
    for other, name in model.all_tied_weights_keys.items():
        found.setdefault(name, []).append(other)
    return found


_ORIGINAL = re.compile(r"parametrizations\.(\w+)\.original$")
_SCALES = re.compile(r"parametrizations\.(\w+)\.0\.scale$")


def stored_tensors(model: PreTrainedModel, halved: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors of a packed model as they stand in a file: codes and scales under one name, tied ones once.

    Those `halved` are in fp16, which of 16 bits keeps weights best; one that it cannot hold stays as it is.
    """
    assert not any(isinstance(module, Int8Linear) and module.is_laid_out for module in model.modules())
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        own = _SCALES.sub(rf"\1{SCALE}", _ORIGINAL.sub(r"\1", name))
        if own not in model.all_tied_weights_keys:
            half = tensor.half() if own in halved else tensor
            tensors[own] = (half if bool(half.isfinite().all()) else tensor).contiguous()
    return tensors


def save(
    model: PreTrainedModel,
    config: Mapping[str, Any],
    folder: Path,
    absent: Iterable[str] = (),
    halved: Collection[str] = (),
    *,
    coded: bool = False,
) -> None:
    """Write a packed model with the `quantization_config` of `layout`.

    The weights lie in `model.safetensors`, or entropy-coded in a file that compresskit alone opens, without those that
    are `absent`, and with those `halved` in fp16.
    """
    model.config.quantization_config = dict(config)
    try:
        model.config.save_pretrained(folder)
    finally:
        del model.config.quantization_config
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    tensors = stored_tensors(model, halved)
    for name in absent:
        del tensors[name]
    if coded:
        save_coded(folder, tensors)
    else:
        save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})


def load_int8(
    family: Family, folder: Path, config: PretrainedConfig, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, set[str]]:
    """Open a checkpoint of this layout on a device; its weights stay in 8 bits. Also the names of lacking parameters.

    `dtype` is that of whatever is not in 8 bits.
    """
    open_in_8_bits(config, folder)
    model, missing = family.load(folder, config, dtype)
    module: nn.Module = model
    # What would overflow in fp16, as T5's `wo` (transformers#5651), computes in fp32.
    precise = set(getattr(model, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else set()
    for name, layer in module.named_modules():
        if isinstance(layer, Int8Linear):
            layer.precise = bool(precise.intersection(name.split(".")))
    module.to(device)
    return model, missing


def open_in_8_bits(config: PretrainedConfig, folder: Path) -> None:
    """Let transformers open the checkpoint of a configuration by our own modules.

    Raises InputError for codes without scales, which transformers would take for weights.
    """
    formats: dict[str, str] = {}
    for path in weight_files(folder):
        read_safetensors_metadata(path)
        with safe_open(path, framework="pt") as file:
            formats |= {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a dict)
    weights = sorted(name for name, number in formats.items() if number == _CODES)
    if not weights:
        raise InputError(
            f"{folder} holds no weights in 8 bits, of which its config.json tells; copy it again, "
            f"or where they are coded make a plain one: compresskit merge {shlex.quote(str(folder))}"
        )
    alone = [name for name in weights if name + SCALE not in formats]
    if alone:
        raise InputError(f"{folder} has no scales for {alone[0]}; it is damaged: copy or download it again")
    static = sorted(name.removesuffix(INPUT_SCALE) for name in formats if name.endswith(INPUT_SCALE))
    config.quantization_config = {"quant_method": METHOD, "weights": weights, "static": static}


def set_activations(model: nn.Module, wanted: Activations) -> None:
    """How linear layers in 8 bits take their inputs."""
    for module in model.modules():
        if isinstance(module, Int8Linear):
            module.activations = wanted


@register_quantization_config(METHOD)
class Int8Config(QuantizationConfigMixin):
    """What transformers is told of a checkpoint in 8 bits while it opens it.

    The weights that are, and the layers whose inputs have one scale.
    """

    def __init__(self, weights: Iterable[str] = (), static: Iterable[str] = (), **_: Any) -> None:
        self.quant_method = METHOD  # type: ignore[assignment]  # transformers' own methods are an enumeration
        self.weights, self.static = list(weights), list(static)


@register_quantizer(METHOD)
class Int8Quantizer(HfQuantizer):
    """Puts our modules into an empty model before transformers reads the tensors, whose names they have."""

    requires_calibration = True  # that is: it opens what is quantized, and quantizes nothing
    quantization_config: Any

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> None:
        tied = sharing(model)
        for name in self.quantization_config.weights:
            shape = model.get_parameter(name).shape
            for each in (name, *tied.get(name, ())):
                codes = torch.empty(shape, dtype=torch.int8, device="meta")
                scales = torch.empty((shape[0], 1), dtype=torch.float32, device="meta")
                put(model, each, codes, scales, shared=each != name)
        for layer in self.quantization_config.static:
            model.get_submodule(layer).input_scale = torch.empty(1, dtype=torch.float32, device="meta")

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        tied = sharing(model)
        for name in self.quantization_config.weights:
            compute(model, name)
            for other in tied.get(name, ()):
                _share(model, name, other)
        _show_numbers(model)
        return model

    def is_serializable(self, **_: Any) -> bool:
        """No: `save` above writes the layout that others read."""
        return False

    @property
    def is_trainable(self) -> bool:
        """No."""
        return False
