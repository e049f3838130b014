"""Which weights are adapted: presets, names and globs, resolved against the model, never in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn
from transformers import PreTrainedModel

from compresskit.errors import UsageError
from compresskit.methods.lora.config import PRESETS
from compresskit.models.blocks import is_linear_layer
from compresskit.models.kinds.weight_adapter import is_linear
from compresskit.models.linear import linear_layers
from compresskit.models.loaded import TrainableModel
from compresskit.models.mamba.adapters import DEFAULT_TARGETS, known_targets

# How the ecosystem's models call the projections of queries and values.
QUERY_VALUE = {"q", "v", "query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "query_proj", "value_proj"}
ATTENTION = ("attention", "attn")


def adaptable(loaded: TrainableModel) -> dict[str, nn.Module]:
    """What an adapter can change, by name: the family's weights, and all linear layers but the head and the output.

    A linear layer goes by its own name. Where some of the family's weights are not of linear layers, those weights are
    all that there is, each by its name.
    """
    found = blocks(loaded)
    if not is_linear(found):
        return found
    for name, module in linear_layers(loaded).items():
        found.setdefault(name, module)
    return found


def blocks(loaded: TrainableModel) -> dict[str, nn.Module]:
    """The family's weights, by the names of `adaptable`."""
    weights = loaded.family.weights(loaded.model)
    return {name.removesuffix(".weight"): m for name, m in weights.items()} if is_linear(weights) else dict(weights)


def chosen(loaded: TrainableModel, targets: Sequence[str]) -> dict[str, nn.Module]:
    """What the `targets` mean in this model, by name, in the model's order.

    Raises UsageError, listing what the model has, for one that matches nothing.
    """
    known, in_blocks = adaptable(loaded), blocks(loaded)
    matched: set[str] = set()
    for target in targets:
        names = {name for name in known if _matches(target, name, name in in_blocks, known[name])}
        if not names:
            own = ", ".join(sorted({_last(name) for name in known}))
            presets = ", ".join(PRESETS)
            raise UsageError(
                f"--targets {target} matches nothing in {loaded.ref}; it has {own}; take of these, or {presets}"
            )
        matched |= names
    return {name: module for name, module in known.items() if name in matched}


def _matches(target: str, name: str, in_block: bool, module: nn.Module) -> bool:
    if target == "all-linear":
        return True
    if target == "linear":
        return in_block
    if target == "query-value":
        # A recurrent layer has no queries; all its matrices are adapted.
        return in_block and (_last(name) in QUERY_VALUE or not is_linear_layer(module))
    if target == "attention":
        return in_block and any(part in name.lower() for part in ATTENTION)
    return name == target or name.endswith(f".{target}") or fnmatchcase(name, target)


def in_a_mamba(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """The targets as a Mamba's layers are called, for all of its blocks, each once.

    `linear` is the default: what the model has of x_proj, in_proj and out_proj. The step's projection learns with
    `all-linear`, or by name; published adapters of it failed (arXiv 2410.09016).
    """
    known = known_targets(model)
    linear = [name for name in DEFAULT_TARGETS if name in known]
    presets = {"linear": linear, "all-linear": [*linear, *({"dt_proj"} & set(known))]}
    return list(dict.fromkeys(name for target in targets for name in presets.get(target, [target])))


def shortened(model: nn.Module, names: Mapping[str, nn.Module]) -> list[str]:
    """The names as short as PEFT understands them: by their last part, where that means these modules and no others."""
    short = sorted({_last(name) for name in names})
    meant = {name for name, _ in model.named_modules() if _last(name) in short}
    return short if meant == set(names) else sorted(names)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def told(known: Mapping[str, nn.Module], names: Mapping[str, nn.Module]) -> str:
    """How many of the modules of each name are adapted, such as `q 36 of 36, v 36 of 36; none of k, o`."""
    present, adapted = Counter(map(_last, known)), Counter(map(_last, names))
    some = [f"{name} {adapted[name]} of {count}" for name, count in present.items() if adapted[name]]
    none = [name for name in present if not adapted[name]]
    return ", ".join(some) + (f"; none of {', '.join(none)}" if none else "")
