"""Answers of whole models, against a loop over windows and spans without batches or padding."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import example as tried
from hypothesis import strategies as st
from torch import Tensor, nn

from compresskit.data.examples import Example
from compresskit.errors import InputError, UsageError
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.loaded import LoadedModel
from compresskit.models.registry import load
from compresskit.models.tasks import batching
from compresskit.models.tasks.span_passes import best_spans
from compresskit.models.tasks.windows import encode
from tests.models import tiny
from tests.models.tiny import KINDS, Kind, example

OPTIONS = AnswerOptions(max_length=48, stride=8, batch_size=4, max_answer_length=5)
CONTEXTS = (
    "Jade, a bad face. ",
    "The head of a cab: DEAF, bag & cafe; ",
    "日本 fée  é-bad.\n\tacid decade  😀 ",
    "beige hide. Aged caged jade ",
)


def asked(count: int) -> list[Example]:
    """Questions about contexts of one to several windows."""
    return [
        example("a bad head?" if i % 2 else "cage", (CONTEXTS[i % 4] * (1 + i % 5)).strip(), id=f"q{i}")
        for i in range(count)
    ]


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    kind: Kind = request.param
    return load(str(tiny.save(kind, tmp_path_factory.mktemp("answer") / kind)), device="cpu")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(str(tiny.save("bert", tmp_path_factory.mktemp("answer") / "bert")), device="cpu")


def answers(loaded: LoadedModel, questions: list[Example], options: AnswerOptions = OPTIONS, **changes: Any) -> Any:
    return list(loaded.family.task.answer(loaded, questions, replace(options, **changes)))


@torch.no_grad()
def by_loop(loaded: LoadedModel, one: Example, options: AnswerOptions) -> tuple[dict[str, float], list[float]]:
    """The best score of every text that a span covers, but for white space around it; each window's null score."""
    made: Any = loaded.tokenizer(
        [one.question],
        [one.context],
        truncation="only_second",
        max_length=options.max_length,
        stride=options.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    typed = loaded.model.config.model_type in ("bert", "electra")
    texts: dict[str, float] = {}
    nulls = []
    for window, ids in enumerate(made["input_ids"]):
        types = {"token_type_ids": torch.tensor([made["token_type_ids"][window]])} if typed else {}
        out = loaded.model(input_ids=torch.tensor([ids]), **types)
        start, end = out.start_logits[0].tolist(), out.end_logits[0].tolist()
        nulls.append(start[0] + end[0])
        inside = [i for i, segment in enumerate(made.sequence_ids(window)) if segment == 1]
        spans = made["offset_mapping"][window]
        for i in inside:
            for j in range(i, min(i + options.max_answer_length, inside[-1] + 1)):
                text = one.context[spans[i][0] : spans[j][1]].strip()
                texts[text] = max(texts.get(text, float("-inf")), start[i] + end[j])
    return texts, nulls


def test_answers_are_those_of_the_loop(loaded: LoadedModel) -> None:
    questions = asked(20)
    truth, several = [], 0
    for one in questions:
        texts, nulls = by_loop(loaded, one, OPTIONS)
        truth.append(({text: score for text, score in texts.items() if text}, min(nulls)))
        several += len(nulls) > 1 and min(nulls) < nulls[0]
    assert several > 2, "the first window should not be the only one that counts"
    margins = sorted(null - max(texts.values()) for texts, null in truth)
    threshold = (margins[9] + margins[10]) / 2  # half of the questions are unanswerable
    found = answers(loaded, questions, n_best=3, null_threshold=threshold)
    assert [prediction.id for prediction in found] == [f"q{i}" for i in range(20)]
    assert sum(not prediction.text for prediction in found) == 10
    for prediction, (texts, null) in zip(found, truth, strict=True):
        best = max(texts.values())
        assert prediction.null_score == pytest.approx(null, abs=1e-4)
        assert prediction.score == pytest.approx(best, abs=1e-4)
        assert texts[prediction.span_text] == pytest.approx(best, abs=1e-4)
        assert prediction.text == ("" if null - best > threshold else prediction.span_text)
        assert prediction.n_best[0].text == prediction.span_text


def test_candidates_are_distinct_and_in_order(bert: LoadedModel) -> None:
    for one, prediction in zip(asked(12), answers(bert, asked(12), n_best=6), strict=True):
        texts, _ = by_loop(bert, one, OPTIONS)
        expected = sorted(texts.values(), reverse=True)[:6]
        scores = [candidate.score for candidate in prediction.n_best]
        assert scores == sorted(scores, reverse=True)
        assert len({candidate.text for candidate in prediction.n_best}) == len(scores)
        assert scores[0] == pytest.approx(expected[0], abs=1e-4)
        assert 1 < len(scores) <= 6


def test_a_window_that_is_longer_than_a_model_reads(bert: LoadedModel) -> None:
    """What is shorter is answered, whatever the longest window may have."""
    for words, fits in ((tiny.POSITIONS // 2, True), (2 * tiny.POSITIONS, False)):
        asked_of = [example("a b", "a " * words)]
        if fits:
            assert len(answers(bert, asked_of, max_length=384, stride=128)) == 1
        else:
            with pytest.raises(UsageError, match=f"--max-length 384 is more than the {tiny.POSITIONS} tokens"):
                answers(bert, asked_of, max_length=384, stride=128)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_does_not_change_answers(loaded: LoadedModel, batch_size: int) -> None:
    questions = asked(20)
    expected = answers(loaded, questions)
    found = answers(loaded, questions, batch_size=batch_size)
    assert [(p.id, p.text, p.span_text) for p in found] == [(p.id, p.text, p.span_text) for p in expected]
    assert [p.score for p in found] == pytest.approx([p.score for p in expected], abs=1e-4)
    assert [p.null_score for p in found] == pytest.approx([p.null_score for p in expected], abs=1e-4)


def test_chunks_do_not_change_answers(bert: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answers(bert, asked(11))
    monkeypatch.setattr(batching, "CHUNK", 3)
    found = answers(bert, asked(11))
    assert [(p.id, p.text) for p in found] == [(p.id, p.text) for p in expected]


@given(
    lengths=st.lists(st.integers(1, 60), max_size=80),
    tokens=st.integers(1, 400),
    most=st.integers(1, 20),
)
def test_batches_hold_what_fits_with_its_padding(lengths: list[int], tokens: int, most: int) -> None:
    batches = list(batching.batches_by_tokens(lengths, tokens, most))
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows, following in itertools.zip_longest(batches, batches[1:]):
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or (len(rows) <= most and len(rows) * longest <= tokens)
        if following is not None:
            # Longest first, and no batch ends before it is full.
            assert min(lengths[row] for row in rows) >= max(lengths[row] for row in following)
            assert len(rows) == most or (len(rows) + 1) * longest > tokens


def test_a_batch_is_padded_to_its_longest_window(bert: LoadedModel) -> None:
    shapes, spans = [], []

    def note(module: nn.Module, inputs: object, keywords: dict[str, torch.Tensor]) -> None:
        shapes.append(tuple(keywords["input_ids"].shape))
        spans.append(int(keywords["attention_mask"].sum(1).max()))

    handle = bert.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        answers(bert, asked(70), batch_size=3)
    finally:
        handle.remove()
    assert len(set(spans)) > 3
    assert [length for _, length in shapes] == [-(-longest // 4) * 4 for longest in spans]
    assert max(rows for rows, _ in shapes) == 3


def test_the_order_of_questions_does_not_change_answers(bert: LoadedModel) -> None:
    questions = asked(130)  # three chunks
    expected = {prediction.id: prediction for prediction in answers(bert, questions)}
    for prediction in answers(bert, questions[::-1]):
        same = expected[prediction.id]
        assert (prediction.text, prediction.span_text) == (same.text, same.span_text)
        assert prediction.score == pytest.approx(same.score, abs=1e-4)
        assert prediction.null_score == pytest.approx(same.null_score, abs=1e-4)


def test_a_question_alone_starts_no_thread(bert: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answers(bert, asked(200))
    threads: list[int] = []

    class Counted(ThreadPoolExecutor):
        def __init__(self, max_workers: int) -> None:
            threads.append(max_workers)
            super().__init__(max_workers)

    monkeypatch.setattr(batching, "ThreadPoolExecutor", Counted)
    assert answers(bert, asked(1))[0].span_text == expected[0].span_text
    assert threads == []
    assert [p.id for p in answers(bert, asked(200))] == [p.id for p in expected]
    assert threads == [1]


@pytest.mark.parametrize("count", [63, 64, 65, 128, 192, 193])
def test_every_chunk_is_answered_in_order(bert: LoadedModel, count: int) -> None:
    assert [prediction.id for prediction in answers(bert, asked(count))] == [f"q{i}" for i in range(count)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contexts=st.lists(st.text(alphabet="abcdefghij  \n.,é日😀x", max_size=90), min_size=1, max_size=4),
    question=st.text(alphabet="abcdefghij ?é", max_size=90),
    longest=st.integers(1, 9),
)
@tried(contexts=["   d"], question="????", longest=2)  # of whose best spans a byte-level reader has blanks alone
def test_answers_are_substrings_of_the_context(loaded: LoadedModel, contexts, question: str, longest: int) -> None:
    questions = [example(question, context, id=str(i)) for i, context in enumerate(contexts)]
    found = answers(loaded, questions, n_best=4, max_answer_length=longest, null_threshold=1e9)
    assert [prediction.id for prediction in found] == [one.id for one in questions]
    for one, prediction in zip(questions, found, strict=True):
        shown = [prediction.text, prediction.span_text, *(candidate.text for candidate in prediction.n_best)]
        assert all(text in one.context for text in shown)
        assert all(candidate.text.strip() for candidate in prediction.n_best)
        # At this threshold nothing is unanswerable: the answer is empty only where the context is.
        assert bool(prediction.text.strip()) is bool(one.context.strip())
        assert (prediction.score is None) is not bool(one.context.strip())


def test_no_answer_is_longer_than_the_limit(bert: LoadedModel) -> None:
    for prediction in answers(bert, asked(12), max_answer_length=1, n_best=9, null_threshold=1e9):
        assert prediction.n_best
        for candidate in prediction.n_best:
            assert len(bert.tokenizer.tokenize(candidate.text)) == 1


def test_the_null_threshold_decides_and_nothing_else(loaded: LoadedModel) -> None:
    questions = asked(20)
    margins = sorted(p.null_score - p.score for p in answers(loaded, questions))
    thresholds = [-1e9, margins[4], margins[9], margins[14], 1e9]
    found = {threshold: answers(loaded, questions, null_threshold=threshold) for threshold in thresholds}
    counts = []
    for threshold, predictions in found.items():
        for prediction in predictions:
            unanswerable = prediction.null_score - prediction.score > threshold
            assert prediction.text == ("" if unanswerable else prediction.span_text)
        counts.append({p.id for p in predictions if p.text})
        same = [(p.span_text, p.score, p.null_score) for p in predictions]
        assert same == [(p.span_text, p.score, p.null_score) for p in found[1e9]]
    assert counts == sorted(counts, key=len)
    assert all(fewer <= more for fewer, more in itertools.pairwise(counts))
    assert (len(counts[0]), len(counts[-1])) == (0, 20)
    assert len(set(map(len, counts))) == 5


def test_a_long_question_is_answered_too(bert: LoadedModel) -> None:
    long = example("a bad " * 60, "jade face", id="long")
    found: list[Prediction] = answers(bert, [asked(1)[0], long, asked(2)[1]], null_threshold=1e9)
    assert [prediction.id for prediction in found] == ["q0", "long", "q1"]
    assert found[1].text in long.context
    assert found[1].text


def test_no_questions_no_answers(bert: LoadedModel) -> None:
    assert answers(bert, []) == []


@pytest.mark.parametrize("where", ["qa_outputs.weight", "bert.encoder.layer.1.output.dense.weight"])
def test_logits_that_are_not_numbers_end_the_run(where: str, tmp_path: Path) -> None:
    loaded = load(str(tiny.save("bert", tmp_path / "broken")), device="cpu")
    with torch.no_grad():
        loaded.model.get_parameter(where)[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"broken gives logits that are not numbers; .* make it again"):
        answers(loaded, asked(3))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("position", [0, 9])
def test_one_logit_that_is_no_number_ends_the_run(position: int, number: float, tmp_path: Path) -> None:
    """Be it that of the null score or that of a span."""
    loaded = load(str(tiny.save("bert", tmp_path / "broken")), device="cpu")

    def spoil(module: nn.Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_fill(1, torch.tensor([position]), number)

    loaded.model.get_submodule("qa_outputs").register_forward_hook(spoil)
    with pytest.raises(InputError, match="gives logits that are not numbers"):
        answers(loaded, asked(3))


def test_the_tokenizer_is_asked_in_the_order_of_the_questions(
    bert: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next chunk is read while a chunk is answered, and no further ahead."""
    monkeypatch.setattr(batching, "CHUNK", 2)
    read: list[str] = []

    def questions() -> Any:
        for one in asked(12):
            read.append(one.id)
            yield one

    stream = bert.family.task.answer(bert, questions(), OPTIONS)
    assert next(stream).id == "q0"
    assert len(read) <= 4
    assert [prediction.id for prediction in stream] == [f"q{i}" for i in range(1, 12)]


# The best spans of a batch.


def every_span(logits: Tensor, context: Tensor, longest: int) -> dict[tuple[int, int], float]:
    """The score of every span inside the context, by a loop."""
    inside = [position for position, is_context in enumerate(context.tolist()) if is_context]
    return {
        (start, end): float(logits[start, 0] + logits[end, 1])
        for start in inside
        for end in inside
        if start <= end < start + longest
    }


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=3),
    n_best=st.integers(1, 7),
    longest=st.integers(1, 20),
    whole=st.booleans(),
)
def test_best_spans_are_those_of_a_loop(seed, lengths, n_best: int, longest: int, whole: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(lengths), 16, 2, generator=generator)
    if whole:
        logits = logits.round()  # many spans of one score
    context = torch.zeros(len(lengths), 16, dtype=torch.bool)
    for row, (first, size) in enumerate(lengths):
        context[row, first : first + size] = True
        logits[row, first + size + 1 :] = float("-inf")  # padding
    found = best_spans(logits, context, n_best, longest)
    for row in range(len(lengths)):
        spans = every_span(logits[row], context[row], longest)
        best = sorted(spans.values(), reverse=True)[:n_best]
        shown = [score for score in found.scores[row].tolist() if score != float("-inf")]
        assert shown == pytest.approx(best)
        places = list(zip(found.starts[row].tolist(), found.ends[row].tolist(), strict=True))[: len(shown)]
        assert len(set(places)) == len(places)
        assert [spans[place] for place in places] == pytest.approx(shown)


def test_windows_that_were_read_are_counted(bert: LoadedModel) -> None:
    questions = asked(9)
    counts = [found.windows for found in answers(bert, questions)]
    alone = [len(encode(bert.tokenizer, [one], OPTIONS.windows)) for one in questions]
    assert counts == alone
    assert set(counts) == {1, 2}
