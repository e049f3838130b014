"""The same adapter in a form that plain PEFT opens in a Mamba: LoKr, which it does not refuse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoKrConfig
from torch import Tensor

from compresskit.checkpoint.store import load_tensors, save_tensors, write_json
from compresskit.errors import InputError
from compresskit.models.kinds.adapter import CONFIG, WEIGHTS
from compresskit.models.kinds.peft_adapter import PREFIX
from compresskit.models.mamba.adapters import PEFT_OPENS, is_lora, read_config

# What plain PEFT cannot compute with: dt_proj's weight is read without its adapter, and LoKr has no embeddings.
NOT_PLAIN = ("dt_proj", "embeddings")


def is_plain(folder: Path) -> bool:
    """Whether plain PEFT opens a Mamba's adapter as it is: one of in_proj and x_proj, or one that is not LoRA."""
    return not is_lora(folder) or PEFT_OPENS.issuperset(
        layer.rpartition(".")[2] for layer in _layers(load_tensors(folder / WEIGHTS))
    )


def peft_plain(folder: Path, out: Path, base: str | None = None) -> None:
    """Write the LoRA of a Mamba in `folder` to `out`, a folder too, as one that `PeftModel.from_pretrained` opens.

    The new folder names `base` as what it stands on, a folder or a Hub id; with None what the old one names.

    LoKr (Yeh et al. 2023, arXiv 2309.14859) computes W + s · w1 ⊗ w2. With w1 = [[1]] and w2 = B A that is LoRA.

    Raises InputError where the adapter is not plain LoRA, has a rank or scale of its own in some layers, or is on
    layers that plain PEFT has no way to compute with.
    """
    config, tensors = read_config(folder), load_tensors(folder / WEIGHTS)
    layers = _layers(tensors)
    if lost := [layer for layer in layers if layer.endswith(NOT_PLAIN)]:
        raise InputError(
            f"{folder} adapts {lost[0]}, which plain PEFT cannot compute with in a Mamba; merge it instead"
        )
    if config.rank_pattern or config.alpha_pattern:
        raise InputError(f"{folder} has ranks or scales of their own in some layers; merge it instead")
    plain = LoKrConfig(
        r=config.r,
        decompose_factor=1,
        task_type=config.task_type,
        base_model_name_or_path=base or config.base_model_name_or_path,
        revision=config.revision,
        inference_mode=True,
    )
    alpha = config.lora_alpha * (math.sqrt(config.r) if config.use_rslora else 1)
    by_name = not config.exclude_modules and config.layers_to_transform is None
    targets = config.target_modules if by_name and isinstance(config.target_modules, set) else layers
    settings: dict[str, Any] = {**plain.to_dict(), "alpha": alpha, "target_modules": sorted(targets)}
    save_tensors(out / WEIGHTS, _as_lokr(tensors))
    write_json(out / CONFIG, settings)


def _layers(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the layers that the tensors of LoRA belong to, sorted."""
    return sorted({name.partition(".lora_")[0].removeprefix(PREFIX) for name in tensors})


def _as_lokr(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """w1 = [[1]] and w2 = B A of each layer.

    PEFT has w2 in two parts where the rank is below half of the layer's larger side, and whole otherwise.
    """
    written = {}
    for name, B in tensors.items():
        layer, found, _ = name.partition(".lora_B.")
        if found:
            A = tensors[f"{layer}.lora_A.weight"]
            written[f"{layer}.lokr_w1"] = torch.ones(1, 1)
            if 2 * len(A) < max(len(B), A.shape[1]):
                written |= {f"{layer}.lokr_w2_a": B, f"{layer}.lokr_w2_b": A}
            else:
                written[f"{layer}.lokr_w2"] = B @ A
    return written
