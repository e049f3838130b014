"""The task of generation: a model reads a prompt, and writes the answer, or a word that means "unanswerable"."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from compresskit.data.examples import Example, ExampleSet
from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions, Prediction, WindowOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.prompt import T5, Prompt
from compresskit.models.task import IGNORED, Batch, Choices, Features, Kept, Pairing
from compresskit.models.tasks import language, text_answers
from compresskit.models.tasks.alignment import SameTokens, same_tokens
from compresskit.models.tasks.prompt_windows import encode_prompts
from compresskit.models.tasks.target_features import TargetCollator, TargetFeatures, shows_answer, write_features
from compresskit.models.tasks.windows import chunked

# Of a teacher's distribution over the vocabulary so many tokens are kept, in fp16.
TOP_TOKENS = 64
INPUTS = ("input_ids", "attention_mask")


class GenerationTask:
    """Texts: a row of choices is one token of a target, over the vocabulary (Raffel et al. 2020).

    `goes_on` says whether the answer follows the prompt in one sequence, or begins another.
    """

    name = "generation"
    prompt: Prompt | None = T5
    goes_on: bool = False
    Options: type[WindowOptions] = WindowOptions
    graph_outputs: tuple[str, ...] = ("logits",)

    def write(
        self, tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example], options: WindowOptions, folder: Path
    ) -> None:
        """Prompts with the tokens of the answer."""
        prompt = options.prompt_template or self.prompt
        assert prompt is not None
        tokens = functools.partial(self.target, tokenizer, prompt=prompt)
        write_features(tokenizer, examples, prompt, options, folder, tokens, self.goes_on)

    def target(self, tokenizer: PreTrainedTokenizerFast, texts: list[str], prompt: Prompt) -> Sequence[Sequence[int]]:
        """The tokens that a model is to write for some texts after a prompt, with what ends them."""
        found: Sequence[Sequence[int]] = tokenizer(text_target=texts)["input_ids"]
        return found

    def open(self, folder: Path) -> Features:
        """The prompts of a folder, memory-mapped."""
        return TargetFeatures(folder)

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[Mapping[str, Any]]], Batch]:
        """A collator that pads to the longest prompt and the longest target of the batch."""
        return TargetCollator(tokenizer.pad_token_id)

    def choices(self, model: nn.Module, batch: Batch) -> Choices:
        """The tokens of all targets, one target after the other, over the vocabulary."""
        labels = batch["labels"]
        outputs = model(
            **{name: batch[name] for name in INPUTS}, decoder_input_ids=shifted(labels, _config(model)), use_cache=False
        )
        told = labels != IGNORED
        return Choices(outputs.logits[told].float(), labels[told])

    def rows(self, batch: Batch) -> Tensor:
        """The tokens of all targets."""
        return (batch["labels"] != IGNORED).sum()

    def keep(self, choices: Choices, batch: Batch) -> list[Kept]:
        """The top 64 tokens of each token of each target: `teacher` (tokens, 64), fp32, and `teacher_tokens`, int32."""
        lengths = (batch["labels"] != IGNORED).sum(dim=1).tolist()
        top = choices.logits.topk(min(TOP_TOKENS, choices.logits.shape[1]), dim=1)
        logits, tokens = top.values.cpu().numpy(), top.indices.to(torch.int32).cpu().numpy()
        ends = np.cumsum(lengths)
        return [
            {"teacher": logits[end - length : end], "teacher_tokens": tokens[end - length : end]}
            for end, length in zip(ends, lengths, strict=True)
        ]

    def recall(self, batch: Batch, width: int) -> Tensor:
        """The teacher's logits in the rows of `choices`; -inf for tokens that were not kept."""
        logits = batch["teacher"].float()
        rows = logits.new_full((len(logits), width), float("-inf"))
        return rows.scatter(1, batch["teacher_tokens"].long(), logits)

    def pairing(self, teacher: LoadedModel, student: LoadedModel) -> Pairing | None:
        """By tokens; None for a teacher that does not write text, whose answers are targets all the same.

        Raises InputError where the teacher writes other tokens.
        """
        if teacher.task.name != self.name:
            return None
        if not same_tokens(teacher, student):
            raise InputError(
                f"the teacher {teacher.ref} has another vocabulary than the student {student.ref}; "
                "take a teacher of the same tokenizer, or a reader of spans"
            )
        return SameTokens()

    def answer(self, loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
        """The likeliest text for each question, or "unanswerable"; see `text_answers`."""
        return text_answers.answer(loaded, examples, options, text_answers.decoder_target, text_answers.encoded)

    @torch.inference_mode()
    def perplexity(self, loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions) -> float | None:
        """Exp of the mean negative log-likelihood of a token of the first gold answers, read as training reads them.

        A window that does not show the answer is left out. None where no window does. Raises InputError where a
        likelihood is not a number.
        """
        prompt = text_answers.prompt_of(loaded, options.prompt_template)
        collate, total, count = self.collator(loaded.tokenizer), 0.0, 0
        for chunk in chunked((each for each in examples if each.answers), options.batch_size):
            features = []
            for window in encode_prompts(loaded.tokenizer, chunk, prompt, options.windows, self.goes_on):
                if shows_answer(example := chunk[window.example], window):
                    (labels,) = self.target(loaded.tokenizer, [prompt.target(example.answers[0].text)], prompt)
                    features.append({"input_ids": window.ids, "labels": labels})
            if features:
                batch = {name: tensor.to(loaded.device) for name, tensor in collate(features).items()}
                choices = self.choices(_module(loaded), batch)
                assert choices.labels is not None
                total += float(nn.functional.cross_entropy(choices.logits, choices.labels, reduction="sum"))
                count += len(choices.labels)
        return language.exp_of_mean(total, count, loaded.ref) if count else None


def shifted(labels: Tensor, config: Any) -> Tensor:
    """What the decoder reads to predict `labels` (batch, length): each token's predecessor, padding for `IGNORED`."""
    read = labels.new_full(labels.shape, text_answers.decoder_start(config))
    read[:, 1:] = labels[:, :-1]
    return read.masked_fill(read == IGNORED, config.pad_token_id)


def _config(model: nn.Module) -> Any:
    """The configuration of a model, also where a distributed run wraps it."""
    return extract_model_from_parallel(model).config


def _module(loaded: LoadedModel) -> nn.Module:
    model: Any = loaded.model
    assert isinstance(model, nn.Module)
    return model


GENERATION = GenerationTask()
