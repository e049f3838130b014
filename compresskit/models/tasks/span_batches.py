"""Batches of windows: what an extractive reader is fed, and the start and end logits that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from compresskit.models.task import Batch
from compresskit.models.tasks.batching import PAD_MULTIPLE, rounded_up

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def span_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Start and end logits in fp32, shape (batch, length, 2), -inf on padding; none is where there is no mask."""
    outputs = model(**{name: batch[name] for name in INPUTS if name in batch})
    logits = torch.stack((outputs.start_logits, outputs.end_logits), dim=-1).float()
    mask = batch.get("attention_mask")
    return logits if mask is None else logits.masked_fill(mask.unsqueeze(-1) == 0, float("-inf"))


def with_mask(batch: Batch) -> Batch:
    """A batch that has its mask where nothing is padded too, as graphs read it; first the tokens, then the mask."""
    ids = batch["input_ids"]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **batch}


def padding_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The number of the tokenizer's padding; where it has none, as many decoders, 0, which the mask hides as well."""
    found: int | None = tokenizer.pad_token_id
    return 0 if found is None else found


class SpanCollator:
    """Pads windows to the longest of the batch, rounded up to `multiple`, as int64 tensors.

    Teacher logits are padded with -inf.
    """

    def __init__(self, pad_id: int, with_types: bool, multiple: int = PAD_MULTIPLE) -> None:
        self.pad_id = pad_id
        self.with_types = with_types
        self.multiple = multiple

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Batch:
        """A batch: input_ids, attention_mask, token_type_ids (batch, length); start, end (batch,); teacher (…, 2).

        Where nothing is padded there is no mask: attention without one is faster, and a GPU need not be asked.
        """
        lengths = [len(feature["input_ids"]) for feature in features]
        longest = rounded_up(max(lengths), self.multiple)
        shape = (len(features), longest)
        ids, mask = np.full(shape, self.pad_id, np.int64), np.zeros(shape, np.int64)
        types = np.zeros(shape, np.int64)
        for row, (feature, length) in enumerate(zip(features, lengths, strict=True)):
            ids[row, :length] = feature["input_ids"]
            mask[row, :length] = 1
            types[row, :length] = feature["token_type_ids"]
        batch = {"input_ids": torch.from_numpy(ids)}
        if min(lengths) < longest:
            batch["attention_mask"] = torch.from_numpy(mask)
        if self.with_types:
            batch["token_type_ids"] = torch.from_numpy(types)
        for label in ("start", "end"):
            if label in features[0]:
                batch[label] = torch.tensor([feature[label] for feature in features])
        if "teacher" in features[0]:
            teacher = np.full((*shape, 2), -np.inf, np.float32)
            for row, (feature, length) in enumerate(zip(features, lengths, strict=True)):
                teacher[row, :length] = feature["teacher"]
            batch["teacher"] = torch.from_numpy(teacher)
        return batch
