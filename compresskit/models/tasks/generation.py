"""The task of generation: what there is of it so far, the perplexity of language models.

They are checkpoints that write text (causal, sequence to sequence) in the ecosystem's own format. No family of ours
owns them yet, so they cannot be asked questions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError, RunFailed
from compresskit.models.answering import AnswerOptions
from compresskit.models.device import resolve_device, resolve_dtype
from compresskit.models.families import FAMILIES
from compresskit.models.folder import check_weights, read_config, read_tokenizer
from compresskit.models.kind import How

LanguageKind = Literal["causal", "seq2seq"]

# The label that transformers leaves out of the loss.
IGNORED = -100


def language_kind(folder: Path) -> LanguageKind | None:
    """What sort of language model a folder holds; None for a checkpoint of one of our families, or anything else.

    Raises InputError where its configuration cannot be read.
    """
    if not (folder / "config.json").is_file():
        return None
    config = read_config(folder)
    if any(family.owns(config) for family in FAMILIES):
        return None
    if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return "seq2seq"
    return "causal" if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None


@dataclass(slots=True)
class LanguageModel:
    """A language model in memory, with its tokenizer; `limit` is the longest input in tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: LanguageKind
    limit: int


def load_language_model(folder: Path, kind: LanguageKind, how: How, max_length: int) -> LanguageModel:
    """Open a folder with transformers' own loader; inputs have at most `max_length` tokens."""
    check_weights(folder)
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSeq2SeqLM
    model = auto.from_pretrained(
        folder,
        dtype=resolve_dtype(how.dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    module: nn.Module = model  # transformers wraps `to` in a way that hides its types
    module.to(resolve_device(how.device)).eval()
    positions = getattr(model.config, "max_position_embeddings", None) or max_length
    return LanguageModel(model, read_tokenizer(folder, None), kind, min(max_length, positions))


def perplexity(loaded: LanguageModel, examples: ExampleSet, options: AnswerOptions) -> float:
    """Exp of the mean negative log-likelihood of a token.

    Causal: of the paragraphs, in windows of `max_length` tokens, each token predicted once, with at least `stride`
    tokens before it where the paragraph has them (Hugging Face's "perplexity of fixed-length models"). Sequence to
    sequence: of the first gold answers, given `question: … context: …` (Raffel et al. 2020).

    Raises InputError where there is no token to predict, RunFailed where a likelihood is not a number.
    """
    rows = _paragraphs(loaded, examples, options) if loaded.kind == "causal" else _answers(loaded, examples)
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in _batches(rows, options.batch_size, loaded):
            logits = loaded.model(**{name: batch[name] for name in batch if name != "targets"}).logits.float()
            targets = batch["targets"]
            if loaded.kind == "causal":  # position t predicts token t + 1
                logits, targets = logits[:, :-1], targets[:, 1:]
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            total += float(loss)
            count += int((targets != IGNORED).sum())
    if not count:
        raise InputError("perplexity needs text to predict, and the data has none; give data with longer contexts")
    if not math.isfinite(total):
        raise RunFailed("the model's likelihoods are not numbers; the checkpoint is broken, make it again")
    return math.exp(total / count)


@dataclass(frozen=True, slots=True)
class _Row:
    """Token ids to read, and the tokens to predict (`IGNORED` where none is)."""

    inputs: list[int]
    targets: list[int]


def _paragraphs(loaded: LanguageModel, examples: ExampleSet, options: AnswerOptions) -> Iterator[_Row]:
    for _, context in examples.paragraphs():
        ids: list[int] = loaded.tokenizer(context)["input_ids"]
        seen = 0
        for begin in range(0, max(len(ids) - options.stride, 1), max(loaded.limit - options.stride, 1)):
            window = ids[begin : begin + loaded.limit]
            yield _Row(window, [IGNORED] * (seen - begin) + window[seen - begin :])
            seen = begin + len(window)


def _answers(loaded: LanguageModel, examples: ExampleSet) -> Iterator[_Row]:
    for example in examples:
        if example.answers:
            prompt = f"question: {example.question} context: {example.context}"
            ids = loaded.tokenizer(prompt, truncation=True, max_length=loaded.limit)["input_ids"]
            yield _Row(ids, loaded.tokenizer(text_target=example.answers[0].text)["input_ids"])


def _batches(rows: Iterable[_Row], size: int, loaded: LanguageModel) -> Iterator[dict[str, Tensor]]:
    """Pad rows on the right to batches on the model's device."""

    def padded(sequences: Iterable[list[int]], value: int) -> Tensor:
        made = pad_sequence([torch.tensor(each) for each in sequences], batch_first=True, padding_value=value)
        return made.to(loaded.model.device)

    pad = loaded.tokenizer.pad_token_id or 0  # masked, so any token will do
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, size)):
        batch = {
            "input_ids": padded((row.inputs for row in chunk), pad),
            "attention_mask": padded(([1] * len(row.inputs) for row in chunk), 0),
            "targets": padded((row.targets for row in chunk), IGNORED),
        }
        if loaded.kind == "seq2seq":  # the model shifts the labels to what its decoder reads
            batch["labels"] = batch["targets"]
        yield batch
