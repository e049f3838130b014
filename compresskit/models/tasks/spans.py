"""The task of extractive reading: a start and an end logit for every token of a window; one token means "no answer"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from compresskit.data.examples import Example, ExampleSet
from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions, Prediction, WindowOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.prompt import Prompt
from compresskit.models.task import Batch, Choices, Features, Kept, Pairing
from compresskit.models.tasks import span_answers
from compresskit.models.tasks.alignment import SameTokens, ThroughCharacters, same_tokens
from compresskit.models.tasks.span_batches import SpanCollator, padding_id, span_logits
from compresskit.models.tasks.span_features import SpanFeatures, write_features


class SpanTask:
    """Spans: a row of choices is the start or the end of one window, over its positions (Devlin et al. 2019)."""

    name = "spans"
    prompt: Prompt | None = None
    Options: type[WindowOptions] = WindowOptions
    graph_outputs: tuple[str, ...] = ("start_logits", "end_logits")

    def write(
        self, tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example], options: WindowOptions, folder: Path
    ) -> None:
        """Windows with the first and last token of the answer."""
        write_features(tokenizer, examples, options, folder)

    def open(self, folder: Path) -> Features:
        """The windows of a folder, memory-mapped."""
        return SpanFeatures(folder)

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[Mapping[str, Any]]], Batch]:
        """A collator that pads to the longest window of the batch."""
        return SpanCollator(padding_id(tokenizer), "token_type_ids" in tokenizer.model_input_names)

    def choices(self, model: nn.Module, batch: Batch) -> Choices:
        """The starts of all windows, then their ends: 2 · batch rows, one choice for each position."""
        labels = torch.cat((batch["start"], batch["end"])) if "start" in batch else None
        return Choices(_rows(span_logits(model, batch)), labels)

    def rows(self, batch: Batch) -> Tensor:
        """A start and an end for each window."""
        return torch.tensor(2 * len(batch["input_ids"]))

    def keep(self, choices: Choices, batch: Batch) -> list[Kept]:
        """All positions of each window: its start and end logits, shape (length, 2), fp32, as `teacher`."""
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        lengths = mask.sum(dim=1).tolist()
        logits = torch.stack(choices.logits.chunk(2), dim=2).cpu().numpy()
        return [{"teacher": window[:length]} for window, length in zip(logits, lengths, strict=True)]

    def recall(self, batch: Batch, width: int) -> Tensor:
        """The teacher's logits in the rows of `choices`."""
        return _rows(batch["teacher"])

    def pairing(self, teacher: LoadedModel, student: LoadedModel) -> Pairing:
        """By tokens where both have the same, else by characters, whatever the families.

        Raises InputError where the teacher does not read spans.
        """
        if teacher.task.name != self.name:
            raise InputError(
                f"the teacher {teacher.ref} answers by {teacher.task.name}, the student {student.ref} by {self.name}; "
                f"take a teacher that answers by {self.name}"
            )
        return SameTokens() if same_tokens(teacher, student) else ThroughCharacters(teacher, student)

    def answer(self, loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
        """The best span of each question, or "no answer"; see `span_answers`."""
        return span_answers.answer(loaded, examples, options)

    def perplexity(self, loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions) -> float | None:
        """None: a reader writes no text."""
        return None


def _rows(logits: Tensor) -> Tensor:
    """Start and end logits (batch, length, 2) as rows (2 · batch, length): all starts, then all ends."""
    return torch.cat((logits[..., 0], logits[..., 1]))


SPANS = SpanTask()
