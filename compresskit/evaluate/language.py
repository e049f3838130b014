"""Figures of language models, on request: perplexity on the data set's text, and tasks of lm-evaluation-harness.

They are for checkpoints that generate text (causal, sequence to sequence) in the ecosystem's own format, whether or not
compresskit can ask them questions.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError, MissingError, RunFailed
from compresskit.evaluate.settings import EvalSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["causal", "seq2seq"]

IGNORED = -100
"""The label that transformers leaves out of the loss."""


def check_harness(tasks: Sequence[str]) -> None:
    """MissingError where tasks are asked for and lm-evaluation-harness is not installed."""
    if tasks and importlib.util.find_spec("lm_eval") is None:
        raise MissingError("--harness needs lm-evaluation-harness: pip install 'lm_eval[hf]'")


def language_kind(folder: Path) -> Kind | None:
    """Return what sort of language model a folder holds; None for one that answers questions, or anything else.

    Raises InputError where its configuration cannot be read.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    from compresskit.models.folder import read_config
    from compresskit.models.registry import FAMILIES

    config = read_config(folder)
    if any(family.owns(config) for family in FAMILIES):
        return None
    if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return "seq2seq"
    return "causal" if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None


@dataclass(slots=True)
class LanguageModel:
    """A language model in memory, with its tokenizer; ``limit`` is the longest input in tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    limit: int


def load_language_model(folder: Path, kind: Kind, settings: EvalSettings) -> LanguageModel:
    """Open a folder with transformers' own loader, on the settings' device and in their number format."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from compresskit.models.device import resolve_device, resolve_dtype
    from compresskit.models.folder import check_weights, read_tokenizer

    check_weights(folder)
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSeq2SeqLM
    model = auto.from_pretrained(
        folder,
        dtype=resolve_dtype(settings.dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    module: nn.Module = model  # transformers wraps `to` in a way that hides its types
    module.to(resolve_device(settings.device)).eval()
    positions = getattr(model.config, "max_position_embeddings", None) or settings.max_length
    return LanguageModel(model, read_tokenizer(folder, None), kind, min(settings.max_length, positions))


def perplexity(loaded: LanguageModel, examples: ExampleSet, settings: EvalSettings) -> float:
    """Return exp of the mean negative log-likelihood of a token.

    Causal: of the paragraphs, in windows of ``max_length`` tokens, each token predicted once, with at least ``stride``
    tokens before it where the paragraph has them (Hugging Face's "perplexity of fixed-length models"). Sequence to
    sequence: of the first gold answers, given ``question: … context: …`` (Raffel et al. 2020).

    Raises InputError where there is no token to predict, RunFailed where a likelihood is not a number.
    """
    import torch

    rows = _paragraphs(loaded, examples, settings) if loaded.kind == "causal" else _answers(loaded, examples)
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in _batches(rows, settings.batch_size, loaded):
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


def _paragraphs(loaded: LanguageModel, examples: ExampleSet, settings: EvalSettings) -> Iterator[_Row]:
    for _, context in examples.paragraphs():
        ids: list[int] = loaded.tokenizer(context)["input_ids"]
        seen = 0
        for begin in range(0, max(len(ids) - settings.stride, 1), max(loaded.limit - settings.stride, 1)):
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
    import itertools

    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(sequences: Iterable[list[int]], value: int) -> torch.Tensor:
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


def _task_name(file: Path) -> str:
    """Return what a task's YAML file calls it; InputError where there is no such file, or it names no task."""
    try:
        # Not by a YAML reader: these files have tags of their own, which stand for functions.
        found = re.search(r"^task:\s*[\"']?([^\s\"'#]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--harness {file}: cannot be read; give a task's YAML file, or a name") from error
    if found is None:
        raise InputError(f"--harness {file}: names no task; write one as `task: NAME`")
    return found[1]


def harness(loaded: LanguageModel, tasks: Sequence[str], settings: EvalSettings) -> dict[str, float | None]:
    """Return the figures of lm-evaluation-harness as ``task/metric``; as they come, most of them 0-1.

    A task is a name that the harness knows, or the path of a task's YAML file. ``settings.limit`` is the number of
    examples of each task. Raises InputError where the harness does not know a task.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    files = [Path(task) for task in tasks if task.endswith((".yaml", ".yml"))]
    manager = TaskManager(include_path=[str(file.parent) for file in files] or None)
    names = [_task_name(Path(task)) if Path(task) in files else task for task in tasks]
    if unknown := [name for name in names if not manager.match_tasks([name])]:
        raise InputError(f"lm-evaluation-harness knows no task {unknown[0]!r}; `lm_eval ls tasks` has the list")
    model = HFLM(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        backend=loaded.kind,
        batch_size=settings.batch_size,
        max_length=loaded.limit,
    )
    found = simple_evaluate(
        model=model, tasks=names, limit=settings.limit, task_manager=manager, log_samples=False, bootstrap_iters=0
    )
    results = found["results"] if found else {}
    return {
        f"{task}/{metric.removesuffix(',none')}": float(value)
        for task, figures in sorted(results.items())
        for metric, value in figures.items()
        if isinstance(value, int | float) and not metric.startswith(("alias", "sample_len")) and "_stderr" not in metric
    }
