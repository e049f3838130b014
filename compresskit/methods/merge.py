"""`merge`: fold an overlay into its base, or unpack int8 weights, to a plain checkpoint that every loader opens."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compresskit import console
from compresskit.checkpoint.manifest import KindName
from compresskit.errors import InputError, RunFailed
from compresskit.methods.job import Job, MergeConfig
from compresskit.methods.method import Attached, Conversion
from compresskit.models.int8 import dequantize
from compresskit.models.kind import How
from compresskit.models.kinds.int8 import METHOD, SCALE, set_activations, stored_tensors
from compresskit.models.loaded import TrainableModel
from compresskit.models.loading import place
from compresskit.models.mamba.adapters import untie_head
from compresskit.models.probing import difference, logits

# Rounding of a merged weight, in parts of the largest logit.
TOLERANCE = 1e-3


class MergeMethod(Conversion):
    """A mask is applied when the checkpoint is opened; adapters are added to the weights that they stand on.

    Weights in 8 bits, coded or not, become the numbers that they stand for.
    """

    name = "merge"
    Config = MergeConfig
    accepts: frozenset[KindName] = frozenset({"mask", "adapter", "quantized"})

    def leaves(self, config: MergeConfig) -> KindName:
        """A plain checkpoint."""
        return "full"

    def title(self, config: MergeConfig) -> str:
        """There is one way to merge."""
        return self.name

    def output(self, job: Job) -> Path:
        """Beside the checkpoint."""
        return Path(job.options.model.rstrip("/") + "-merged")

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """InputError for weights that another package packed."""
        if getattr(loaded.model, "quantization_method", None) not in (None, METHOD):
            raise InputError(
                f"{loaded.ref} is packed by {loaded.made_by}, and merge unpacks int8 of compresskit alone; "
                "give what it was packed from"
            )

    def attach(self, loaded: TrainableModel, config: MergeConfig, dtype: torch.dtype) -> Attached:
        """The merged model, to be saved."""
        return Merged(loaded, config)


class Merged(Attached):
    """A model with its overlay folded in, or its weights unpacked."""

    def __init__(self, loaded: TrainableModel, config: MergeConfig) -> None:
        self.loaded, self.dtype = loaded, config.dtype

    def finish(self) -> Mapping[str, Any]:
        """Unpack, fold PEFT's adapters into the weights. Raises RunFailed where the model then answers otherwise."""
        if unpack(self.loaded):
            console.info("the unpacked weights give the logits of those in 8 bits")
        if fold(self.loaded):
            console.info("the merged weights give the adapter's logits")
        return {}

    def save(self, folder: Path) -> None:
        """A plain checkpoint with the same logits, but for rounding; a head that was never trained stays out of it."""
        model = self.loaded.model
        place(model, How("cpu", self.dtype))
        absent = self.loaded.family.head(model) if self.loaded.missing_head else set()
        state = {name: tensor for name, tensor in model.state_dict().items() if name not in absent}
        model.save_pretrained(folder, state_dict=state)


@torch.no_grad()
def fold(loaded: TrainableModel) -> bool:
    """Put plain layers with the effective weights in the place of PEFT's layers; whether there were any.

    Raises RunFailed where the logits of random inputs differ by more than rounding.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = loaded.model
    adapted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)]
    if not adapted:
        return False
    before = logits(loaded)
    if any(".lora_embedding_" in name for name, _ in model.named_parameters()):
        untie_head(model)
    for name, layer in reversed(adapted):  # an adapter of one of a module's weights may stand on that of another
        merging: Any = layer
        merging.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, merging.get_base_layer())
    model.requires_grad_(True)
    _check_logits(loaded, before, "the adapter's")
    return True


@torch.no_grad()
def unpack(loaded: TrainableModel) -> bool:
    """Put a plain model in fp32 in the place of one that is kept in our 8 bits; whether it was.

    Raises RunFailed where the logits of random inputs differ by more than rounding.
    """
    packed = loaded.model
    if getattr(packed, "quantization_method", None) != METHOD:
        return False
    set_activations(packed, "none")
    tensors = stored_tensors(packed)
    state = {
        name: dequantize(tensor, tensors[name + SCALE]) if tensor.dtype == torch.int8 else tensor
        for name, tensor in tensors.items()
    }
    config = copy.deepcopy(packed.config)
    del config.quantization_config
    before = logits(loaded)
    loaded.model = type(packed)(config)
    loaded.model.load_state_dict(state, strict=False)
    loaded.model.tie_weights()
    if packed.can_generate():
        loaded.model.generation_config = packed.generation_config
    _check_logits(loaded, before, "those in 8 bits")
    return True


def _check_logits(loaded: TrainableModel, before: Tensor, whose: str) -> None:
    worst = difference(logits(loaded), before)
    if not worst <= TOLERANCE:
        raise RunFailed(f"the merged model's logits differ from {whose} by {worst:.1g}; keep {loaded.ref} as it is")
