"""The task of generation for models that go on with a text: the prompt and the answer are one sequence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from torch.nn.functional import pad
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from compresskit.data.examples import Example, ExampleSet
from compresskit.errors import InputError, UsageError
from compresskit.models.answering import AnswerOptions, Prediction, WindowOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.prompt import LINES, Prompt
from compresskit.models.task import IGNORED, Batch, Choices, Features
from compresskit.models.tasks import language, text_answers
from compresskit.models.tasks.batching import PAD_MULTIPLE
from compresskit.models.tasks.causal_memory import Shared, output_of, remembered
from compresskit.models.tasks.generation import GenerationTask
from compresskit.models.tasks.hypotheses import Target
from compresskit.models.tasks.memory import Memory
from compresskit.models.tasks.target_features import padded

# A prompt of fewer tokens asks nothing.
LEAST = 16
# The tokens of an answer, and its end, for which a text has room beside the prompt.
ROOM = 31


class CausalTask(GenerationTask):
    """Texts: a row of choices is one token of a target, which follows its prompt (Radford et al. 2018)."""

    prompt: Prompt | None = LINES
    goes_on = True

    def target(self, tokenizer: PreTrainedTokenizerFast, texts: list[str], prompt: Prompt) -> Sequence[Sequence[int]]:
        """The tokens of the texts, as they are where a text follows the prompt, each with the end of a text."""
        end = end_of(tokenizer)
        front = prompt.frame[2] or "."  # as contexts end
        return [[*ids, end] for ids in _following(tokenizer, front, texts)]

    def check_lengths(self, features: Features, config: PretrainedConfig, options: WindowOptions) -> None:
        """UsageError where a prompt and its target together have more tokens than a model has positions."""
        positions = positions_of(config)
        if positions is None:
            return
        room = positions // PAD_MULTIPLE * PAD_MULTIPLE  # so long a batch is at most
        targets = np.diff(features.bounds)
        over = features.lengths + targets > room
        if over.any():
            longest = int(targets[over].max())
            lower = f"lower it to {room - longest}, or " if room - longest >= LEAST else ""
            raise UsageError(
                f"--max-length {options.max_length} and answers of up to {longest} tokens ({int(over.sum())} of them) "
                f"are more than the {room} tokens that the model reads; {lower}leave out the longest answers"
            )

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[Mapping[str, Any]]], Batch]:
        """A collator that joins each prompt with its target, and pads to the longest of the batch, on the right."""
        return CausalCollator(end_of(tokenizer))

    def choices(self, model: nn.Module, batch: Batch) -> Choices:
        """The tokens of all targets, one target after the other, over the vocabulary."""
        labels = batch["labels"][:, 1:]  # a token is predicted at the one before
        told = pad(labels != IGNORED, (0, 1))
        with output_of(extract_model_from_parallel(model), told):
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        logits = logits[told] if logits.shape[:2] == told.shape else logits[0]
        return Choices(logits.float(), labels[told[:, :-1]])

    def answer(self, loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
        """The likeliest text for each question, or "unanswerable"; see `text_answers`."""
        positions = positions_of(loaded.model.config)
        null = _null(self, loaded, text_answers.prompt_of(loaded, options.prompt_template))
        # The last token that is written is not read.
        most = None if positions is None else positions - max(options.max_answer_length, len(null)) + 1
        if most is not None and most < LEAST:
            raise UsageError(
                f"an answer of {options.max_answer_length} tokens, or the word for unanswerable of {len(null)}, leaves "
                f"no room for a prompt in the {positions} of {loaded.ref}; lower --max-answer-length, or shorten it"
            )
        remember = functools.partial(_remembered, Shared(loaded.model), most)
        target = functools.partial(_target, self)
        return text_answers.answer(loaded, examples, options, target, remember, goes_on=self.goes_on)

    def perplexity(self, loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions) -> float | None:
        """That of the paragraphs; see `language`."""
        return language.perplexity(loaded, examples, options)


class CausalCollator:
    """Pads sequences of a prompt and its target on the right, with a token that is masked, as int64 tensors.

    A batch has input_ids, attention_mask and labels, all (batch, length); labels are `IGNORED` where there is no token
    of a target. What is kept of a teacher, arrays of (tokens, width) by name, is joined: (tokens of the batch, width).
    """

    def __init__(self, pad_id: int, multiple: int = PAD_MULTIPLE) -> None:
        self.pad_id = pad_id
        self.multiple = multiple

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Batch:
        """A batch, as the class describes it."""
        rows = [[*feature["input_ids"], *feature.get("labels", ())] for feature in features]
        ids, mask = padded(rows, self.pad_id, self.multiple)
        batch = {"input_ids": ids, "attention_mask": mask}
        if "labels" in features[0]:
            told = [[IGNORED] * len(each["input_ids"]) + list(each["labels"]) for each in features]
            batch["labels"] = padded(told, IGNORED, self.multiple)[0]
        for name in features[0].keys() - {"input_ids", "labels", "index"}:
            batch[name] = torch.from_numpy(np.concatenate([feature[name] for feature in features]))
        return batch


def end_of(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token that ends a text. Raises InputError for a tokenizer that has none."""
    end: int | None = tokenizer.eos_token_id
    if end is None:
        raise InputError("the tokenizer names no end of a text (eos_token), at which answers end; add it")
    return end


def _following(tokenizer: PreTrainedTokenizerFast, front: str, texts: list[str]) -> Sequence[Sequence[int]]:
    """The tokens of texts that follow another one: sentencepiece would begin a text by itself with a blank.

    Those of the texts by themselves where the border falls into a token.
    """
    before, *joined = tokenizer([front, *(front + text for text in texts)], add_special_tokens=False)["input_ids"]
    alone = tokenizer(texts, add_special_tokens=False)["input_ids"]
    count = len(before)
    return [ids[count:] if ids[:count] == before else own for ids, own in zip(joined, alone, strict=True)]


def _target(task: GenerationTask, loaded: LoadedModel, prompt: Prompt) -> Target:
    """Answers begin where the prompt ends."""
    null = _null(task, loaded, prompt)
    stops, unknown = text_answers.stops_of(loaded.tokenizer, prompt, null), text_answers.unknown_tokens(loaded)
    return Target((), tuple(null), end_of(loaded.tokenizer), stops, unknown)


def _null(task: GenerationTask, loaded: LoadedModel, prompt: Prompt) -> Sequence[int]:
    """The tokens of the prompt's word for unanswerable, with the end of a text."""
    (null,) = task.target(loaded.tokenizer, [prompt.target(prompt.unanswerable)], prompt)
    return null


def positions_of(config: PretrainedConfig) -> int | None:
    """How many tokens a model reads, prompt and answer together; None where its states have no length."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return positions


def _remembered(
    shared: Shared, most: int | None, loaded: LoadedModel, prompts: Sequence[Sequence[int]], multiple: int
) -> Memory:
    """The memory of some prompts. Raises UsageError where one has more than so many tokens."""
    longest = max(map(len, prompts))
    if most is not None and longest > most:
        raise UsageError(
            f"a prompt of {longest} tokens leaves no room for an answer, or for unanswerable, in {loaded.ref}; "
            f"lower --max-length to {most}, or make what is longer of the two shorter (--max-answer-length)"
        )
    return remembered(loaded.model, prompts, shared)


CAUSAL = CausalTask()
