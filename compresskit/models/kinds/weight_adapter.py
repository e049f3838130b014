"""Low-rank adapters over weights that PEFT cannot reach, such as an LSTM's matrices: W is computed as W + s · B A.

They lie in a folder of PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`), which compresskit alone
opens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from compresskit.checkpoint.store import load_tensors, read_json, save_tensors, write_json
from compresskit.errors import InputError
from compresskit.models.blocks import is_linear_layer
from compresskit.models.kinds.adapter import CONFIG, WEIGHTS
from compresskit.models.kinds.peft_adapter import PREFIX

PARTS = ("lora_A", "lora_B")


class LowRank(nn.Module):
    """Parametrization of a weight (rows, columns): `lora_B` (rows, rank) times `lora_A` (rank, columns) is added.

    The product is multiplied by `factor`. A starts Kaiming-uniform, as a linear layer's weight does, and B as zeros.
    """

    def __init__(self, weight: Tensor, rank: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.lora_A = nn.Parameter(weight.new_empty((rank, weight.shape[1]), dtype=torch.float32))
        self.lora_B = nn.Parameter(weight.new_zeros((weight.shape[0], rank), dtype=torch.float32))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The effective weight."""
        return weight + (self.factor * (self.lora_B @ self.lora_A)).to(weight.dtype)


def is_linear(weights: Mapping[str, nn.Module]) -> bool:
    """Whether all weights belong to linear layers, which PEFT adapts by itself."""
    return all(map(is_linear_layer, weights.values()))


def put_on(name: str, module: nn.Module, rank: int, factor: float) -> LowRank:
    """An adapter over the parameter `name` (as the model calls it) of the module that holds it."""
    own = name.rpartition(".")[2]
    adapter = LowRank(module.get_parameter(own), rank, factor)
    parametrize.register_parametrization(module, own, adapter, unsafe=True)
    return adapter


def save_adapter(
    folder: Path, adapters: Mapping[str, LowRank], head: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> None:
    """Write the adapters by the names of their weights, and the head's parameters, in PEFT's layout."""
    tensors = {f"{PREFIX}{name}.{part}.weight": getattr(a, part) for name, a in adapters.items() for part in PARTS}
    save_tensors(folder / WEIGHTS, {**tensors, **{PREFIX + name: tensor for name, tensor in head.items()}})
    write_json(folder / CONFIG, {"peft_type": "LORA", **settings, "target_modules": sorted(adapters)})


@torch.no_grad()
def inject_weights(model: PreTrainedModel, weights: Mapping[str, nn.Module], folder: Path) -> set[str]:
    """Add the adapters of a folder to the weights of `model`, in place; the names of parameters that it replaces whole.

    Raises InputError where a name or a shape does not fit the model.
    """
    config: Any = read_json(folder / CONFIG)
    rank, alpha = _number(config, "r", folder), _number(config, "lora_alpha", folder)
    factor = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    parameters = dict(model.named_parameters())
    pairs: dict[str, dict[str, Tensor]] = {}
    replaced = {}
    for key, tensor in load_tensors(folder / WEIGHTS).items():
        name = key.removeprefix(PREFIX)
        weight, _, part = name.removesuffix(".weight").rpartition(".")
        if part in PARTS and weight in weights:
            pairs.setdefault(weight, {})[part] = tensor
        elif name in parameters and parameters[name].shape == tensor.shape:
            replaced[name] = tensor
        else:
            raise InputError(f"the adapter {folder} does not fit its base: it has no place for {name}; give its own")
    if lost := set(config.get("target_modules") or ()) - pairs.keys():
        raise InputError(f"the adapter {folder} does not fit its base: it lacks what {min(lost)} needs; copy it again")
    for name, pair in pairs.items():
        own = parameters[name]
        shapes = {part: tuple(tensor.shape) for part, tensor in pair.items()}
        if shapes != {"lora_A": (rank, own.shape[1]), "lora_B": (own.shape[0], rank)}:
            raise InputError(f"the adapter {folder} does not fit its base: {name} is of another shape or rank")
        own.add_((factor * (pair["lora_B"].float() @ pair["lora_A"].float())).to(own))
    for name, tensor in replaced.items():
        parameters[name].copy_(tensor)
    return set(replaced)


def _number(config: Any, key: str, folder: Path) -> Any:
    value = config.get(key) if isinstance(config, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(f"{folder / CONFIG}: {key!r} is not a number above 0; it is damaged: make or copy it again")
    return value
