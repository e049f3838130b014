"""Overlay folders for tests, and by hand the weights that they stand for."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from compresskit.checkpoint.manifest import Manifest
from compresskit.models.encoder import EncoderFamily
from compresskit.models.kinds.overlay import save_overlay
from compresskit.models.registry import load_trainable
from compresskit.models.source import base_of, resolve
from tests.listing import unlisted
from tests.models.tiny import random_masks


def make(base: Path, folder: Path, *, learns: bool, block: tuple[int, int] = (1, 1)) -> dict[str, Tensor]:
    """Write an overlay on `base`, whose files may be changed, and return the state dict that it stands for.

    Every prunable weight gets a mask, and the head other values; with `learns` every masked weight too.
    """
    loaded = load_trainable(resolve(str(base)))
    family = EncoderFamily()
    weights = list(family.weights(loaded.model))
    masks = random_masks({name: loaded.model.get_parameter(name).shape for name in weights}, seed=3, block=block)
    generator = torch.Generator().manual_seed(4)
    state = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    names = family.head(loaded.model) | (set(masks) if learns else set())
    learned = {name: torch.randn(state[name].shape, generator=generator) for name in sorted(names)}
    folder.mkdir(parents=True)
    save_overlay(folder, masks, learned)
    loaded.model.config.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    Manifest("encoder", "mask", base_of(resolve(str(base)), folder), []).write(folder)
    unlisted(folder)
    state.update(learned)
    for name, mask in masks.items():
        rows, columns = mask.block
        kept = torch.tensor(mask.bits.tolist()).repeat_interleave(rows, 0).repeat_interleave(columns, 1)
        state[name] = state[name] * kept
    return state
