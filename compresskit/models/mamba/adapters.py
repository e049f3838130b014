"""LoRA on Mamba that trains on every path: put on, saved, opened and merged.

The folders have PEFT's layout. PEFT itself refuses out_proj in a Mamba, since its layers would not train there; ours
do, and PEFT stays as it is for all other models in the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from compresskit.checkpoint.store import load_tensors, read_json, save_tensors, write_json
from compresskit.errors import InputError, UsageError
from compresskit.models.fitting import held, no_larger_than
from compresskit.models.folder import opening
from compresskit.models.kinds.adapter import CONFIG, WEIGHTS
from compresskit.models.kinds.bnb import library
from compresskit.models.kinds.peft_adapter import ADDED, PREFIX
from compresskit.models.mamba.effective import ComputedTogether
from compresskit.models.mamba.layers import EffectiveLinear
from compresskit.text import counted

DEFAULT_TARGETS = ("in_proj", "x_proj", "out_proj")
# The rows of in_proj that make what is convolved and scanned, and those that make the gate.
HALVES = ("in_x", "in_z")
TARGETS = (*DEFAULT_TARGETS, "dt_proj", "embeddings", *HALVES)
# Plain PEFT opens adapters of these to the same logits.
PEFT_OPENS = {"in_proj", "x_proj", *HALVES}
# Called on every path, so that there is an input to drop; the others' weights are read, or looked up.
WITH_DROPOUT = {"in_proj", *HALVES}
NAME = "default"
# What PEFT's LoRA can do besides adding s · B A to weights.
NOT_SUPPORTED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)


class MambaLora(LoraModel):
    """PEFT's LoRA of a model, in all of a Mamba's layers."""

    def _check_target_module_compatiblity(self, *_: Any) -> None:
        """PEFT refuses out_proj here, which its own layers would not train."""


def put_adapters(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    rslora: bool = False,
    targets: Sequence[str] = (),
) -> MambaLora:
    """Put new adapters (Hu et al. 2021, arXiv 2106.09685) into a Mamba, in place; they alone learn from now on.

    A weight W becomes W + s · B A, where B A has the `rank` and s is alpha / rank, or alpha / √rank with `rslora`. A
    starts Kaiming-uniform, B as zeros, both fp32. `targets` are of `TARGETS`; with none, what there is of
    `DEFAULT_TARGETS`. `in_x` and `in_z` adapt only that half of in_proj's rows: B's other rows stay zero. In a folder
    they are an adapter of in_proj.

    Raises UsageError for a target that the model lacks, and for dropout on a layer whose weight is read, since that has
    no input to drop.
    """
    targets = checked_targets(model, targets, dropout)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a float will do
        lora_dropout=dropout,
        use_rslora=rslora,
        target_modules=sorted({_layer_of(target) for target in targets}),
        task_type="CAUSAL_LM",
    )
    adapted = _inject(model, config)
    halves = [half for half in HALVES if half in targets]
    if len(halves) == 1 and "in_proj" not in targets:
        for name, parameter in adapter_tensors(adapted).items():
            if ".in_proj.lora_B." in name:
                _learn_half(parameter, halves[0])
    return adapted


def adapter_tensors(adapted: MambaLora) -> dict[str, nn.Parameter]:
    """A and B of all adapters, by the names that they have in PEFT's file."""
    return {
        PREFIX + name.replace(f".{NAME}", ""): parameter
        for name, parameter in adapted.model.named_parameters()
        if ".lora_" in name
    }


def checked_targets(model: PreTrainedModel, targets: Sequence[str], dropout: float) -> Sequence[str]:
    """The targets, or where there are none what there is of `DEFAULT_TARGETS`.

    Raises UsageError for one that the model lacks, and for dropout on a layer whose weight is read.
    """
    known = known_targets(model)
    targets = targets or [target for target in DEFAULT_TARGETS if target in known]
    if missing := [target for target in targets if target not in known]:
        kind = model.config.model_type
        raise UsageError(f"--targets {missing[0]} matches nothing in a {kind}; take of {', '.join(known)}")
    if dropout and (read := [target for target in targets if target not in WITH_DROPOUT]):
        raise UsageError(
            f"--dropout has no effect on {', '.join(read)}, whose weights are read: there is no input to drop; "
            f"leave it out, or take --targets of {', '.join(sorted(WITH_DROPOUT))}"
        )
    return targets


def known_targets(model: PreTrainedModel) -> list[str]:
    """Those of `TARGETS` that a Mamba has. Mamba-2's in_proj has more parts than two halves."""
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    halved = model.config.model_type != "mamba2"
    return [target for target in TARGETS if _layer_of(target) in present and (halved or target not in HALVES)]


def save_adapters(adapted: MambaLora, folder: Path) -> None:
    """Write the adapters into `folder` in PEFT's layout, without the weights that they stand on."""
    settings = adapted.peft_config[NAME].to_dict() | {"inference_mode": True}
    if isinstance(settings["target_modules"], set):  # else a pattern
        settings["target_modules"] = sorted(settings["target_modules"])
    save_tensors(folder / WEIGHTS, adapter_tensors(adapted))
    write_json(folder / CONFIG, settings)


@torch.no_grad()
def open_adapters(model: PreTrainedModel, folder: Path) -> MambaLora:
    """Put the LoRA of a folder in PEFT's layout into its base `model`, in place, for inference.

    Raises InputError where the folder holds something else than plain LoRA, or does not fit the model to the last
    tensor.
    """
    fitting = opening(f"the adapter {folder} does not fit its base", "give it its own base")
    with fitting, no_larger_than(held(folder), folder, ADDED):
        adapted = _inject(model, read_config(folder))
    own, saved = adapter_tensors(adapted), load_tensors(folder / WEIGHTS)
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in (own, saved)]
    if odd := {name for name in own.keys() | saved.keys() if shapes[0].get(name) != shapes[1].get(name)}:
        raise InputError(
            f"the adapter {folder} does not fit its base: it differs in {counted(len(odd), 'tensor')}, "
            f"such as {min(odd)}; give it its own base, or copy it again"
        )
    for name, parameter in own.items():
        parameter.copy_(saved[name])
    return adapted


def take_adapters_off(model: PreTrainedModel) -> None:
    """Put the layers below PEFT's back in their places, as they were."""
    together: Any = model.computed_together
    together.remove()
    del model.computed_together
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    del model.peft_config  # else PEFT takes it for a model that has adapters


def untie_head(model: PreTrainedModel) -> None:
    """Give the output layer weights of its own, equal to the embeddings', if it shares them."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    shared: Any = getattr(embeddings, "base_layer", embeddings)
    if head is not None and head.weight is shared.weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
        model.all_tied_weights_keys = {}


def is_lora(folder: Path) -> bool:
    """Whether PEFT's settings in a folder are those of LoRA."""
    settings = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return isinstance(settings, dict) and settings.get("peft_type") == "LORA"


def read_config(folder: Path) -> LoraConfig:
    """PEFT's settings in a folder. Raises InputError where they are not those of plain LoRA."""
    settings = read_json(folder / CONFIG)
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA" or any(settings.get(more) for more in NOT_SUPPORTED):
        raise InputError(f"{folder} is not plain LoRA, and that alone is supported in a Mamba; train it anew")
    with opening(f"{folder / CONFIG} cannot be read", "it is damaged, or of another version of PEFT"):
        config: LoraConfig = LoraConfig.from_pretrained(str(folder))
    return config


def _inject(model: PreTrainedModel, config: LoraConfig) -> MambaLora:
    """PEFT's own injection, with our layers in the place of its own."""
    config._register_custom_module(_layer_classes(model))
    adapted = MambaLora(model, config, NAME)
    for parameter in adapter_tensors(adapted).values():
        parameter.data = parameter.data.float()
    model.computed_together = ComputedTogether(model.base_model)  # type: ignore[assignment]  # not a module
    return adapted


def _layer_classes(model: PreTrainedModel) -> dict[type[nn.Module], type[nn.Module]]:
    """Which of our layers goes onto which; the first that fits is taken, and packed layers are linear ones too."""
    classes: dict[type[nn.Module], type[nn.Module]] = {}
    if _is_packed(model):
        from compresskit.models.mamba.packed_layers import EffectiveLinear4bit, EffectiveLinear8bit

        packed = library().nn
        classes = {packed.Linear4bit: EffectiveLinear4bit, packed.Linear8bitLt: EffectiveLinear8bit}
    return {**classes, nn.Linear: EffectiveLinear}


def _is_packed(model: PreTrainedModel) -> bool:
    return getattr(model, "quantization_method", None) is not None


def _layer_of(target: str) -> str:
    return "in_proj" if target in HALVES else target


def _learn_half(B: nn.Parameter, half: str) -> None:
    """Keep the gradient, and so the values, of the other half of B's rows at zero."""
    middle = len(B) // 2
    other = slice(middle, None) if half == "in_x" else slice(middle)

    def kept(grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad[other] = 0
        return grad

    B.register_hook(kept)  # type: ignore[no-untyped-call]  # torch's own
