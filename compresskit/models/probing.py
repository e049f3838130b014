"""What a model says of made-up input, to compare two forms of the same model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compresskit.models.loaded import TrainableModel


@torch.no_grad()
def logits(loaded: TrainableModel) -> Tensor:
    """All logits of a model in evaluation mode for a few random tokens, in one row; the same tokens on every call."""
    model: Any = loaded.model.eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (2, 16), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :4]
    outputs = model(**inputs)
    return torch.cat([outputs[name].flatten() for name in loaded.task.graph_outputs])


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two rows of logits, in parts of the largest logit (of 1 where that is less)."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
