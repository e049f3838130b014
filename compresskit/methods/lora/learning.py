"""Which of the chosen layers can learn: those that the answers depend on, and that PEFT does not take for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from peft import LoraConfig as PeftLora
from torch import nn

from compresskit import console
from compresskit.errors import UsageError
from compresskit.models.blocks import is_linear_layer
from compresskit.models.kinds.weight_adapter import is_linear
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import reached


def learning(loaded: TrainableModel, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules whose adapters learn in the model's task, by name; what is left out is said, and why.

    One forward pass tells. Raises UsageError where none is left.
    """
    linear = {name: module for name, module in modules.items() if is_linear_layer(module)}
    used = reached(loaded, linear)
    unread = [name for name in linear if not used.get(name)]
    mistaken: list[str] = []
    if is_linear(loaded.family.weights(loaded.model)):
        lost = _experts_to_peft(loaded.model, {_last(name) for name in modules})
        mistaken = [name for name in modules if _last(name) in lost and name not in unread]
    for names, why in (
        (unread, "the answers do not depend on them"),
        (mistaken, "PEFT takes their names for those of the stacked experts"),
    ):
        if names:
            console.info(f"left out, as {why}: {_counted(names)}")
    left = {name: module for name, module in modules.items() if name not in {*unread, *mistaken}}
    if not left:
        raise UsageError(f"no adapter of these --targets learns in {loaded.ref} ({_counted(modules)}); take others")
    return left


def _experts_to_peft(model: nn.Module, names: Iterable[str]) -> set[str]:
    """Those of the last parts of names that PEFT reads as parts of stacked experts, where a model has some.

    So does whoever opens the adapter by PEFT: a layer of its own with such a name, such as the expert that all tokens
    share, has no name that would reach it.
    """
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    found = set()
    for name in names:
        config = PeftLora(target_modules=[name])
        try:
            convert_peft_config_for_transformers(config, model=model, conversions=None)
        except ValueError:  # a part of a stack, of which the other parts are wanted as well
            found.add(name)
        else:
            found |= {name} - set(config.target_modules or ())
    return found


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(map(_last, names)).items())


def _last(name: str) -> str:
    return name.rpartition(".")[2]
