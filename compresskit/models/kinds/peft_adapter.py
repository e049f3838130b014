"""PEFT adapters: LoRA and its like, which PEFT injects into the modules of a base."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from compresskit.errors import InputError
from compresskit.models.fitting import held, no_larger_than
from compresskit.models.folder import opening
from compresskit.models.kinds.adapter import CONFIG, WEIGHTS, check_weights
from compresskit.text import counted

PREFIX = "base_model.model."
# Numbers that an adapter may have beside those in its file, such as VeRA's, which are drawn.
ADDED = 10_000_000
# Not injected into single modules: they need PEFT's own forward, with gates, task ids, or prompts between layers.
NOT_INJECTED = ("ADAPTION_PROMPT", "POLY", "XLORA")


def inject_adapter(model: PreTrainedModel, folder: Path) -> tuple[PreTrainedModel, str, set[str]]:
    """Put the adapter in a folder into its base `model`, in place, for inference.

    Returns the model (the same class as the base's), the method's name in lower case (`lora`, `dora`, `ia3`, …), and
    the names of the base's parameters that the adapter replaces whole (such as those of its head).

    Raises InputError where the adapter is of a kind that is not injected into modules, is damaged, or does not fit its
    base to the last tensor.
    """
    from peft import PeftModel

    method = _method(folder)
    check_weights(folder)
    with warnings.catch_warnings(), opening(f"the adapter {folder} does not fit its base", "give it its own base"):
        # Of what PEFT warns (tensors that are left out, names that it guesses), we make sure ourselves.
        warnings.simplefilter("ignore")
        with no_larger_than(held(folder), folder, ADDED):
            adapted = PeftModel.from_pretrained(model, folder, is_trainable=False, torch_device=str(model.device))
        saved = _check_complete(adapted, folder)
    injected: Any = adapted.get_base_model()  # the base itself
    _unwrap_replaced(injected)
    return injected, method, {name.removeprefix(PREFIX) for name in saved}


def _method(folder: Path) -> str:
    """The adapter's method in lower case; InputError where it is not one that is injected into modules."""
    from peft import PeftConfig, PeftType

    path = folder / CONFIG
    with warnings.catch_warnings(), opening(f"{path} cannot be read", "it is damaged, or of another version of PEFT"):
        warnings.simplefilter("ignore")
        config: Any = PeftConfig.from_pretrained(str(folder))
        kind = PeftType(config.peft_type).value
    if config.is_prompt_learning or kind in NOT_INJECTED:
        raise InputError(
            f"{folder} is an adapter by {kind.lower().replace('_', ' ')}, which is not supported; "
            "those that PEFT injects into modules are: LoRA, DoRA, IA3, AdaLoRA, VeRA, OFT, …"
        )
    return "dora" if getattr(config, "use_dora", False) else str(kind).lower()


_OUTER = "base_model.model."  # what PEFT puts before the names of the model's own tensors


def _check_complete(adapted: Any, folder: Path) -> set[str]:
    """The names of an adapter's tensors in its file; InputError where one has no place, or a place has no tensor.

    PEFT puts in what fits, and leaves the rest as it was drawn.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        saved = set(file.keys())
    # Embeddings of the base that were saved along go to the base itself.
    places = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    inner = f"{_OUTER}{adapted.get_base_model().base_model_prefix}."
    if saved and {inner + name.removeprefix(_OUTER) for name in saved} <= places:
        raise InputError(
            f"the adapter {folder} was trained on the bare model (AutoModel), without a head that answers; "
            "train one on a model with a head: compresskit lora BASE"
        )
    for odd, what in ((places - saved, "lacks"), (saved - places - set(adapted.state_dict()), "has no place for")):
        if odd:
            raise InputError(
                f"the adapter {folder} does not fit its base: it {what} {counted(len(odd), 'tensor')}, "
                f"such as {min(odd)}; give it its own base, or copy it again"
            )
    return saved


def _unwrap_replaced(model: nn.Module) -> None:
    """Put the modules that an adapter replaces whole in the place of the base's, which nothing computes with."""
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.modules_to_save[module.active_adapters[0]])
