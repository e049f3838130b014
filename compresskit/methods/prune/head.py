"""The question-answering head of a model that is pruned: whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compresskit.checkpoint.store import tensor_shapes
from compresskit.models.loaded import LoadedModel, TrainableModel

# How the tensors of a masked-LM head are called by BERT and its like, by RoBERTa, and by DistilBERT.
MASKED_LM_HEADS = ("cls.predictions.", "lm_head.", "vocab_transform.")


@torch.no_grad()
def set_head(loaded: TrainableModel, teacher: LoadedModel | None) -> str:
    """Choose the student's question-answering head, and tell which: `teacher`, `base`, `labels` or `trained`.

    The teacher's where there is one of the same shapes, else the checkpoint's own, else the label words' embeddings
    where the base has a masked-LM head (arXiv 2210.06210), else one that is trained along. Afterwards
    `loaded.missing_head` tells whether it has to be trained.
    """
    chosen = _choice(loaded, teacher)
    loaded.missing_head = chosen == "trained"
    return chosen


def _choice(loaded: TrainableModel, teacher: LoadedModel | None) -> str:
    if teacher is not None:
        own, theirs = dict(loaded.model.named_parameters()), dict(teacher.model.named_parameters())
        head = loaded.family.head(loaded.model)
        # A model without a head of its own (its base gives the logits) has nothing to take over.
        if head and all(name in theirs and theirs[name].shape == own[name].shape for name in head):
            for name in head:
                own[name].copy_(theirs[name])
            return "teacher"
    if not loaded.missing_head:
        return "base"
    assert loaded.path is not None
    return "labels" if label_head(loaded.path, loaded.model, loaded.tokenizer) else "trained"


@torch.no_grad()
def label_head(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Start and end logits from the embeddings of "yes" and "no", if there is a masked-LM head; whether there is.

    The label words' embeddings mean something only where the output of the encoder was trained to match them, so a base
    without a masked-LM head keeps its random head (and the head is trained).
    """
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
    head = dict(model.named_parameters()).get("qa_outputs.weight")
    if head is None or tokenizer.unk_token_id in words or not _holds(folder, MASKED_LM_HEADS):
        return False
    embeddings = model.get_input_embeddings().get_parameter("weight")
    if embeddings.shape[1] != head.shape[1]:
        return False
    head.copy_(embeddings[words])
    model.get_parameter("qa_outputs.bias").zero_()
    return True


def _holds(folder: Path, prefixes: Sequence[str]) -> bool:
    """Whether a folder holds a tensor whose name starts with one of `prefixes`."""
    return any(name.startswith(tuple(prefixes)) for name, _ in tensor_shapes(folder))
