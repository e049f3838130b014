"""Answers of extractive readers: the best span of each question, or "no answer", from the logits of its windows."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from compresskit.data.examples import Example
from compresskit.errors import InputError, UsageError
from compresskit.models.answering import AnswerOptions, Candidate, Prediction
from compresskit.models.loaded import LoadedModel
from compresskit.models.tasks.batching import (
    CPU_PAD_MULTIPLE,
    batches_by_tokens,
    graph_length,
    most_windows,
    prepared_chunks,
    rounded_up,
)
from compresskit.models.tasks.readings import Reading, read_windows
from compresskit.models.tasks.span_batches import padding_id
from compresskit.models.tasks.span_passes import Passes, how_of, in_order, packed, passes_of

# The score, first and last token, and window of a possible answer.
_Span = tuple[float, int, int, int]


def answer(loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
    """Answer questions in their order; the next chunk is tokenized while the model works on this one.

    A GPU has the next chunk to work on while the answers of this one are read.

    Raises InputError where the model's logits are not numbers, UsageError where a window is longer than it reads.
    """
    # One question at a time is what a latency is taken of: as torch alone answers it.
    passes = passes_of(loaded.model, graphs=options.batch_size > 1)
    passes.begin()
    waiting: deque[_Asked] = deque()
    for chunk, reading in prepared_chunks(
        examples, lambda chunk: read_windows(loaded.tokenizer, chunk, options.windows)
    ):
        waiting.append(_ask(loaded, passes, chunk, reading, options))
        if len(waiting) > passes.ahead:
            yield from _answers(loaded, passes, waiting.popleft(), options)
    for asked in waiting:
        yield from _answers(loaded, passes, asked, options)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A chunk of questions that was put to a model: its windows, and what comes back for the rows of each batch.

    What comes back may be read once `wait` returns.
    """

    examples: list[Example]
    reading: Reading
    results: list[tuple[list[int], Tensor]]
    wait: Callable[[], None]


def _ask(
    loaded: LoadedModel, passes: Passes, examples: list[Example], reading: Reading, options: AnswerOptions
) -> _Asked:
    """Launch the passes over the windows of a chunk, in batches of similar length, for the `n_best` spans of each."""
    positions = loaded.family.max_positions(loaded.model.config)
    lengths = [len(ids) for ids in reading.ids]
    if positions is not None and max(lengths, default=0) > positions:
        raise UsageError(
            f"--max-length {options.max_length} is more than the {positions} tokens that {loaded.ref} reads; "
            "lower it, and --stride with it"
        )
    with_types = "token_type_ids" in loaded.tokenizer.model_input_names
    pad_id = padding_id(loaded.tokenizer)
    results = []
    for rows, length in _batches(lengths, positions, passes.on_gpu, options):
        batch = packed(reading, rows, length, pad_id, with_types, pinned=passes.on_gpu)
        # On a GPU a mask that hides nothing takes time; elsewhere models look whether it does.
        with_mask = not passes.on_gpu or min(lengths[row] for row in rows) < length
        results.append((rows, passes.ask(batch, how_of(with_types, with_mask, options))))
    return _Asked(examples, reading, results, passes.mark())


def _batches(
    lengths: Sequence[int], positions: int | None, on_gpu: bool, options: AnswerOptions
) -> Iterator[tuple[list[int], int]]:
    """The rows of each batch of windows of so many tokens, and the length that they are padded to."""

    def padded(length: int) -> int:
        wanted = graph_length(length) if on_gpu else rounded_up(length, CPU_PAD_MULTIPLE)
        return wanted if positions is None else max(min(wanted, positions), length)

    rounded = [padded(length) for length in lengths]
    most = most_windows("cuda" if on_gpu else "cpu", options)
    for rows in batches_by_tokens(rounded, options.batch_size * padded(options.max_length), most):
        yield rows, rounded[rows[0]]


def _answers(loaded: LoadedModel, passes: Passes, asked: _Asked, options: AnswerOptions) -> Iterator[Prediction]:
    """The answers of a chunk, once its results are there."""
    for question, prediction in zip(asked.examples, _predictions(loaded, asked, options, options.n_best), strict=True):
        if prediction.score is None and question.context.strip():
            # All of the best spans are white space, which byte-level tokenizers have tokens of: look at every span.
            every = options.max_length * options.max_answer_length
            reading = read_windows(loaded.tokenizer, [question], options.windows)
            again = _ask(loaded, passes, [question], reading, replace(options, n_best=every))
            yield from _predictions(loaded, again, options, every)
        else:
            yield prediction


def _predictions(loaded: LoadedModel, asked: _Asked, options: AnswerOptions, spans_each: int) -> Iterator[Prediction]:
    """What is found among the best spans of the windows of a chunk, so many of each; no score where all are blank."""
    asked.wait()
    reading = asked.reading
    null, scores, starts, ends = in_order(asked.results, len(reading.ids), spans_each)
    # -inf is the score of a span that there is not; +inf or NaN is no number of a whole model.
    if not (np.isfinite(null).all() and (scores[:, 0] < np.inf).all()):
        raise InputError(f"{loaded.ref} gives logits that are not numbers; the checkpoint is broken, make it again")
    windows = zip(reading.example, null.tolist(), scores.tolist(), starts.tolist(), ends.tolist(), strict=True)
    of_example = itertools.groupby(enumerate(windows), key=lambda each: each[1][0])
    for question, (_, group) in zip(asked.examples, of_example, strict=True):
        spans: list[_Span] = []
        found = list(group)
        for window, (_, _, *best) in found:
            spans += [(*span, window) for span in zip(*best, strict=True) if span[0] > float("-inf")]
        least = min(null_score for _, (_, null_score, *_) in found)
        yield _predict(question, reading, spans, least, len(found), options)


def _predict(
    example: Example, reading: Reading, spans: list[_Span], null_score: float, windows: int, options: AnswerOptions
) -> Prediction:
    """Merge the `windows` of one question: best span, least null score, and the decision between them."""
    candidates: dict[str, Candidate] = {}
    for score, first, last, window in sorted(spans, key=lambda span: -span[0]):
        start, _ = reading.characters(window, first)
        _, end = reading.characters(window, last)
        told = example.context[start:end]
        text = told.strip()  # GPT-2's tokens take the space before a word along
        if not text:
            continue  # byte-level tokenizers have tokens of white space, which answer nothing
        start += len(told) - len(told.lstrip())
        candidates.setdefault(text, Candidate(text, score, start, start + len(text)))
        if len(candidates) == options.n_best:
            break
    best = next(iter(candidates.values()), None)
    if best is None:
        return Prediction(example.id, "", None, null_score, "", windows=windows)
    unanswerable = null_score - best.score > options.null_threshold
    told, shown = "" if unanswerable else best.text, tuple(candidates.values())
    return Prediction(example.id, told, best.score, null_score, best.text, shown, windows)
