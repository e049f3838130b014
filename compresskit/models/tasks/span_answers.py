"""Answers of extractive readers: the best span of each question, or "no answer", from the logits of its windows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from compresskit.data.examples import Example
from compresskit.errors import InputError, UsageError
from compresskit.models.answering import AnswerOptions, Candidate, Prediction
from compresskit.models.loaded import LoadedModel
from compresskit.models.task import Batch
from compresskit.models.tasks.batching import inference_batches, prepared_chunks
from compresskit.models.tasks.span_batches import SpanCollator, padding_id, span_logits
from compresskit.models.tasks.windows import Windows, encode, null_position, token_characters


def answer(loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
    """Answer questions in their order; the next chunk is tokenized while the model works on this one.

    Raises InputError where the model's logits are not numbers, UsageError where a window is longer than it reads.
    """
    positions = loaded.family.max_positions(loaded.model.config)
    for chunk, windows in prepared_chunks(examples, lambda chunk: encode(loaded.tokenizer, chunk, options.windows)):
        if positions is not None and max(map(len, windows.encoding["input_ids"]), default=0) > positions:
            raise UsageError(
                f"--max-length {options.max_length} is more than the {positions} tokens that {loaded.ref} reads; "
                "lower it, and --stride with it"
            )
        yield from _answer_chunk(loaded, chunk, windows, options)


@torch.inference_mode()
def _answer_chunk(
    loaded: LoadedModel, examples: list[Example], windows: Windows, options: AnswerOptions
) -> Iterator[Prediction]:
    results: list[tuple[list[int], Tensor]] = []
    for batch, rows in _inference_batches(loaded, windows, options):
        logits = span_logits(loaded.model, batch)
        best = best_spans(logits, batch["context"], options.n_best, options.max_answer_length)
        null = logits.gather(1, batch["null"].view(-1, 1, 1).expand(-1, 1, 2)).sum(dim=2)
        # Positions are whole numbers far below 2^24, which fp32 holds exactly.
        results.append((rows, torch.cat((null, best.scores, best.starts.float(), best.ends.float()), dim=1)))
    found: list[list[_Span]] = [[] for _ in examples]
    nulls = [float("inf")] * len(examples)
    # Read when all is asked: whoever reads waits for the GPU, which meanwhile could be given the next batch.
    for rows, result in results:
        for row, (null_score, *numbers) in zip(rows, result.tolist(), strict=True):
            n = len(numbers) // 3
            scores, starts, ends = numbers[:n], numbers[n : 2 * n], numbers[2 * n :]
            # -inf is the score of a span that there is not; +inf or NaN is no number of a whole model.
            if not math.isfinite(null_score) or not scores[0] < math.inf:
                raise InputError(
                    f"{loaded.ref} gives logits that are not numbers; the checkpoint is broken, make it again"
                )
            example = windows.example[row]
            nulls[example] = min(nulls[example], null_score)
            spans = zip(scores, map(int, starts), map(int, ends), strict=True)
            found[example] += [_Span(*span, row) for span in spans]
    read = Counter(windows.example)
    for number, (question, spans_of_question, null_score) in enumerate(zip(examples, found, nulls, strict=True)):
        yield replace(_predict(question, windows, spans_of_question, null_score, options), windows=read[number])


@dataclass(frozen=True, slots=True)
class BestSpans:
    """Best spans of a batch: `scores` fp32, `starts` and `ends` int64 token positions, each of shape (batch, n)."""

    scores: Tensor
    starts: Tensor
    ends: Tensor


def best_spans(logits: Tensor, context: Tensor, n_best: int, max_answer_length: int) -> BestSpans:
    """The `n_best` spans of highest start + end logit inside the context, of at most `max_answer_length` tokens.

    `logits` is (batch, length, 2), `context` a boolean (batch, length). Every span is compared, on the model's device:
    the official practice looks only at those of the 20 best starts and 20 best ends.
    """
    scores = logits.masked_fill(~context.unsqueeze(-1), float("-inf"))
    length = scores.shape[1]
    width = min(max_answer_length, length)
    ends = nn.functional.pad(scores[..., 1], (0, width - 1), value=float("-inf")).unfold(1, width, 1)
    pairs = (scores[..., 0].unsqueeze(-1) + ends).flatten(1)
    top = pairs.topk(min(n_best, pairs.shape[1]), dim=1)
    starts = top.indices // width
    return BestSpans(top.values, starts, starts + top.indices % width)


@dataclass(frozen=True, slots=True)
class _Span:
    score: float
    start: int
    end: int
    window: int


def _inference_batches(
    loaded: LoadedModel, windows: Windows, options: AnswerOptions
) -> Iterator[tuple[Batch, list[int]]]:
    """Windows in batches of similar length, on the model's device, with their row numbers."""
    on_gpu = loaded.device.type == "cuda"
    with_types = "token_type_ids" in loaded.tokenizer.model_input_names
    all_ids, all_types = windows.encoding["input_ids"], windows.encoding["token_type_ids"]
    multiple, batches = inference_batches([len(ids) for ids in all_ids], loaded.device.type, options)
    collate = SpanCollator(padding_id(loaded.tokenizer), with_types, multiple)
    for rows in batches:
        batch = collate([{"input_ids": all_ids[row], "token_type_ids": all_types[row]} for row in rows])
        position = torch.arange(batch["input_ids"].shape[1])
        first = torch.tensor([windows.context_start[row] for row in rows]).unsqueeze(1)
        last = torch.tensor([windows.context_end[row] for row in rows]).unsqueeze(1)
        batch["context"] = (position >= first) & (position < last)
        batch["null"] = torch.tensor([null_position(loaded.tokenizer, all_ids[row]) for row in rows])
        if on_gpu:  # copies from pinned memory need not wait for the GPU
            batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
        yield {name: tensor.to(loaded.device, non_blocking=True) for name, tensor in batch.items()}, rows


def _predict(
    example: Example, windows: Windows, spans: list[_Span], null_score: float, options: AnswerOptions
) -> Prediction:
    """Merge the windows of one question: best span, least null score, and the decision between them."""
    candidates: dict[str, Candidate] = {}
    for span in sorted((s for s in spans if s.score > float("-inf")), key=lambda s: -s.score):
        start, _ = token_characters(windows.encoding, span.window, span.start)
        _, end = token_characters(windows.encoding, span.window, span.end)
        told = example.context[start:end]
        text = told.strip()  # GPT-2's tokens take the space before a word along
        if not text:
            continue  # byte-level tokenizers have tokens of white space, which answer nothing
        start += len(told) - len(told.lstrip())
        candidates.setdefault(text, Candidate(text, span.score, start, start + len(text)))
        if len(candidates) == options.n_best:
            break
    best = next(iter(candidates.values()), None)
    if best is None:
        return Prediction(example.id, "", None, null_score, "")
    unanswerable = null_score - best.score > options.null_threshold
    return Prediction(
        example.id, "" if unanswerable else best.text, best.score, null_score, best.text, tuple(candidates.values())
    )
