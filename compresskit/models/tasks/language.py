"""Causal language models, of which no family of ours knows how to ask a question: their perplexity.

They are checkpoints that write text in the ecosystem's own format.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError, RunFailed
from compresskit.models.answering import AnswerOptions
from compresskit.models.device import resolve_device, resolve_dtype
from compresskit.models.families import owner
from compresskit.models.folder import check_weights, read_config, read_tokenizer
from compresskit.models.kind import How
from compresskit.models.task import IGNORED


def writes_text(folder: Path) -> bool:
    """Whether a folder holds a language model, of a family of ours or of none.

    Raises InputError where its configuration cannot be read.
    """
    if not (folder / "config.json").is_file():
        return False
    family = owner(read_config(folder))
    return is_foreign(folder) if family is None else family.task.prompt is not None


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds a causal language model of no family of ours.

    Raises InputError where its configuration cannot be read.
    """
    if not (folder / "config.json").is_file():
        return False
    config = read_config(folder)
    return owner(config) is None and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


@dataclass(slots=True)
class LanguageModel:
    """A causal language model in memory, with its tokenizer; `limit` is the longest input in tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    limit: int


def load_language_model(folder: Path, how: How, max_length: int) -> LanguageModel:
    """Open a folder with transformers' own loader; inputs have at most `max_length` tokens."""
    check_weights(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=resolve_dtype(how.dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    module: nn.Module = model  # transformers wraps `to` in a way that hides its types
    module.to(resolve_device(how.device)).eval()
    positions = getattr(model.config, "max_position_embeddings", None) or max_length
    return LanguageModel(model, read_tokenizer(folder, None), min(max_length, positions))


def perplexity(loaded: LanguageModel, examples: ExampleSet, options: AnswerOptions) -> float:
    """Exp of the mean negative log-likelihood of a token of the paragraphs.

    They are read in windows of `max_length` tokens, each token predicted once, with at least `stride` tokens before it
    where the paragraph has them (Hugging Face's "perplexity of fixed-length models").

    Raises InputError where there is no token to predict, RunFailed where a likelihood is not a number.
    """
    rows = _paragraphs(loaded, examples, options)
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in _batches(rows, options.batch_size, loaded):
            logits = loaded.model(**{name: batch[name] for name in batch if name != "targets"}).logits.float()
            logits, targets = logits[:, :-1], batch["targets"][:, 1:]  # position t predicts token t + 1
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


def _batches(rows: Iterable[_Row], size: int, loaded: LanguageModel) -> Iterator[dict[str, Tensor]]:
    """Pad rows on the right to batches on the model's device."""

    def padded(sequences: Iterable[list[int]], value: int) -> Tensor:
        made = pad_sequence([torch.tensor(each) for each in sequences], batch_first=True, padding_value=value)
        return made.to(loaded.model.device)

    pad = loaded.tokenizer.pad_token_id or 0  # masked, so any token will do
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, size)):
        yield {
            "input_ids": padded((row.inputs for row in chunk), pad),
            "attention_mask": padded(([1] * len(row.inputs) for row in chunk), 0),
            "targets": padded((row.targets for row in chunk), IGNORED),
        }
