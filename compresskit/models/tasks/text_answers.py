"""Answers of models that write them: the likeliest text of each question over its windows, or "unanswerable"."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from compresskit import console
from compresskit.data.examples import Example
from compresskit.errors import InputError, UsageError
from compresskit.models.answering import AnswerOptions, Candidate, Prediction
from compresskit.models.loaded import LoadedModel
from compresskit.models.prompt import Prompt
from compresskit.models.tasks.batching import inference_batches, prepared_chunks
from compresskit.models.tasks.decoding import Decoder
from compresskit.models.tasks.hypotheses import Hypothesis, Search, Stops, Target
from compresskit.models.tasks.memory import EncoderMemory, Memory
from compresskit.models.tasks.prompt_windows import PromptWindow, encode_prompts
from compresskit.models.tasks.target_features import padded

# Tokens of a window that are left for a question and a part of its context where examples stand before them.
LEAST_ROOM = 96
# The option of a training under which the manifest keeps its prompt.
PROMPT_KEY = "prompt_template"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model says of one window: the log-probability of "unanswerable", and the best texts."""

    null: float
    found: Sequence[Hypothesis]


# What the answers of a checkpoint begin and end with, by the prompt.
TargetOf = Callable[[LoadedModel, Prompt], Target]
# The memories of some prompts that are asked together: those of a model, by the token ids of the prompts.
Remember = Callable[[LoadedModel, Sequence[Sequence[int]], int], Memory]


def answer(
    loaded: LoadedModel,
    examples: Iterable[Example],
    options: AnswerOptions,
    target_of: TargetOf,
    remember: Remember,
    goes_on: bool = False,
) -> Iterator[Prediction]:
    """Answer questions in their order; the next chunk is tokenized while the model works on this one.

    `target_of` tells what an answer begins and ends with, `remember` makes the memory of a batch of prompts; `goes_on`
    as `encode_prompts` has it.

    Each window is answered by itself. The window that answers a question is the one whose best text is likeliest
    against "unanswerable" there; score and null score are the two log-probabilities of that window.

    Raises InputError where the model's logits are not numbers.
    """
    prompt = with_shots(loaded, prompt_of(loaded, options.prompt_template), options)
    target = target_of(loaded, prompt)
    # Without a beam for each there would be no other text to show.
    how = Search(
        max(options.beams or 1, options.n_best),
        1.0 if options.length_penalty is None else options.length_penalty,
        options.max_answer_length,
    )
    for chunk, windows in prepared_chunks(
        examples, lambda chunk: encode_prompts(loaded.tokenizer, chunk, prompt, options.windows, goes_on)
    ):
        answered = _answer_windows(loaded, windows, target, how, options, remember)
        by_example: list[list[Answered]] = [[] for _ in chunk]
        for window, each in zip(windows, answered, strict=True):
            by_example[window.example].append(each)
        for example, each_window in zip(chunk, by_example, strict=True):
            yield replace(_predict(example, each_window, loaded, prompt, options), windows=len(each_window))


def prompt_of(loaded: LoadedModel, given: Prompt | None) -> Prompt:
    """The prompt to ask a checkpoint with: the `given` one, else that of its training, else the task's own.

    A given one that is not that of the training is told, once.
    """
    trained = trained_prompt(loaded)
    if given is not None and trained is not None and given != trained:
        _warn_once(f"{loaded.ref} was trained with the prompt {trained.template!r}, and is asked with another")
    found = given or trained or loaded.task.prompt
    assert found is not None, "only models that write text have prompts"
    return found


def with_shots(loaded: LoadedModel, prompt: Prompt, options: AnswerOptions) -> Prompt:
    """The prompt with examples before it: as many as leave a window room for a question and a part of its context.

    Raises UsageError where not one does.
    """
    fronts = [""]
    for shot in options.shots:
        answer = shot.answers[0].text if shot.answers else prompt.unanswerable
        fronts.append(f"{fronts[-1]}{prompt.text(shot.question.strip(), shot.context)}{prompt.target(answer)}\n\n")
    room = options.max_length - options.stride - LEAST_ROOM
    fitting = [front for front in fronts if len(loaded.tokenizer(front)["input_ids"]) <= room or not front]
    if len(fitting) < len(fronts):
        least = options.max_length - room + len(loaded.tokenizer(fronts[-1])["input_ids"])
        told = (
            f"{len(fitting) - 1} of {len(options.shots)} examples fit before a question in --max-length "
            f"{options.max_length} with --stride {options.stride}; with --max-length {least} all do"
        )
        if len(fitting) == 1:
            raise UsageError(told)
        _warn_once(told)
    return replace(prompt, front=fitting[-1])


@functools.cache
def _warn_once(message: str) -> None:
    console.warn(message)


def trained_prompt(loaded: LoadedModel) -> Prompt | None:
    """The prompt of a checkpoint's last training, by its manifest; None where that does not tell.

    Raises InputError where what the manifest holds is not a prompt.
    """
    for step in reversed(loaded.manifest.steps if loaded.manifest is not None else ()):
        raw = step.config.get(PROMPT_KEY)
        if raw is not None:
            return Prompt.from_dict(raw, f"the manifest of {loaded.ref}")
    return None


def encoded(loaded: LoadedModel, prompts: Sequence[Sequence[int]], multiple: int) -> Memory:
    """The memory of an encoder-decoder: a batch is encoded once, padded to a multiple of `multiple`."""
    model: Any = loaded.model
    ids, mask = (each.to(loaded.device) for each in padded(prompts, loaded.tokenizer.pad_token_id, multiple))
    return EncoderMemory(model, model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state, mask)


def decoder_target(loaded: LoadedModel, prompt: Prompt) -> Target:
    """What the decoder begins with, and the unanswerable target, in the checkpoint's tokens."""
    # Around every target the tokenizer puts its own tokens: T5 an end, BART a beginning too.
    *front, end = loaded.tokenizer(text_target="")["input_ids"] or [loaded.tokenizer.eos_token_id]
    null = loaded.tokenizer(text_target=prompt.target(prompt.unanswerable))["input_ids"]
    null = null[len(front) :]
    start, stops = (decoder_start(loaded.model.config), *front), stops_of(loaded.tokenizer, prompt, null)
    return Target(start, tuple(null), end, stops, unknown_tokens(loaded))


def unknown_tokens(loaded: LoadedModel) -> Tensor | None:
    """The ids (n,) of a model's vocabulary that its tokenizer has no text for; None where there are none.

    Embeddings are often padded to a round number of rows, such as Mamba's 50,280 for 50,277 tokens.
    """
    unknown = _unknown(loaded.tokenizer, loaded.model.config.vocab_size)
    return torch.tensor(unknown, device=loaded.device) if unknown else None


@functools.lru_cache(maxsize=4)
def _unknown(tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> list[int]:
    return sorted(set(range(vocabulary)) - set(tokenizer.get_vocab().values()))


def stops_of(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, null: Sequence[int]) -> Stops | None:
    """How it is told that a text is over, where the prompt has texts that end it; `null` is the unanswerable target."""
    if not prompt.stop:
        return None
    over, void = functools.partial(_over, tokenizer, prompt), functools.partial(_void, tokenizer, prompt)
    return Stops(over, void, _closing(tokenizer, prompt, tuple(null)))


@functools.lru_cache(maxsize=4)
def _closing(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, null: tuple[int, ...]) -> Sequence[int]:
    """The tokens that stop the unanswerable target: with blanks before the stop, and anything after it."""
    every = sorted(tokenizer.get_vocab().values())
    alone = tokenizer.batch_decode([[token] for token in every], skip_special_tokens=True)
    some = [token for token, text in zip(every, alone, strict=True) if any(stop in text for stop in prompt.stop)]
    # What a token stands for in a text may be more than alone, such as a blank.
    texts = [[*null[:-1], token] for token in some]
    told = zip(some, _over(tokenizer, prompt, texts), _void(tokenizer, prompt, texts), strict=True)
    return [token for token, over, void in told if over and void]


def _over(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, written: Sequence[Sequence[int]]) -> Sequence[bool]:
    return [any(stop in text for stop in prompt.stop) for text in _decoded(tokenizer, written)]


def _void(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, written: Sequence[Sequence[int]]) -> Sequence[bool]:
    return [prompt.answer(text) in ("", prompt.unanswerable) for text in _decoded(tokenizer, written)]


def _decoded(tokenizer: PreTrainedTokenizerFast, written: Sequence[Sequence[int]]) -> list[str]:
    return [str(tokenizer.decode(list(tokens), skip_special_tokens=True)) for tokens in written]


def decoder_start(config: Any) -> int:
    """The token that a decoder begins with: padding where the configuration does not tell."""
    start: int | None = config.decoder_start_token_id
    return config.pad_token_id if start is None else start


@torch.inference_mode()
def _answer_windows(
    loaded: LoadedModel,
    windows: Sequence[PromptWindow],
    target: Target,
    how: Search,
    options: AnswerOptions,
    remember: Remember,
) -> list[Answered]:
    """What the model says of each window, in their order; windows of like length are asked together."""
    multiple, batches = inference_batches([len(window.ids) for window in windows], loaded.device.type, options)
    decoder = Decoder(target, how)
    for rows in batches:
        decoder.add(remember(loaded, [windows[row].ids for row in rows], multiple), rows)
    found = decoder.finish()
    answered = [Answered(*found[row]) for row in range(len(windows))]
    if any(not each.null < math.inf or not each.found or not each.found[0].score < math.inf for each in answered):
        raise InputError(f"{loaded.ref} gives logits that are not numbers; the checkpoint is broken, make it again")
    return answered


def _predict(
    example: Example, windows: Sequence[Answered], loaded: LoadedModel, prompt: Prompt, options: AnswerOptions
) -> Prediction:
    """Merge the windows of one question, and decide between the best text and "unanswerable"."""
    # Python sorts stably: of equal ones the first window, and in it the better rank, comes first.
    ordered = sorted(
        ((hypothesis, window.null) for window in windows for hypothesis in window.found),
        key=lambda pair: pair[1] - pair[0].score,
    )
    candidates: dict[str, tuple[Candidate, float]] = {}
    for hypothesis, null in ordered:
        text = prompt.answer(str(loaded.tokenizer.decode(list(hypothesis.tokens), skip_special_tokens=True)))
        if text and text != prompt.unanswerable:
            candidates.setdefault(text, (_placed(text, hypothesis.score, example.context), null))
        if len(candidates) == options.n_best:
            break
    if not candidates:
        return Prediction(example.id, "", None, max(window.null for window in windows), "")
    best, null = next(iter(candidates.values()))
    unanswerable = null - best.score > options.null_threshold
    return Prediction(
        example.id,
        "" if unanswerable else best.text,
        best.score,
        null,
        best.text,
        tuple(candidate for candidate, _ in candidates.values()),
    )


def _placed(text: str, score: float, context: str) -> Candidate:
    """A written text with its place in the context, where it stands there just once."""
    start = context.find(text)
    if start < 0 or context.find(text, start + 1) >= 0:
        return Candidate(text, score)
    return Candidate(text, score, start, start + len(text))
