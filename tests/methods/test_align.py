"""A teacher's logits at the tokens of a student with another tokenizer, against a walk over the characters."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from compresskit.data.examples import Example, ExampleSet
from compresskit.data.features import WindowOptions, build_features, encode, null_position
from compresskit.methods import align, distill
from compresskit.methods.distill import DistilledFeatures, Texts, distillation_loss, teacher_logits
from compresskit.models.family import TrainableModel
from tests import tiny
from tests.models.lstm import small

OPTIONS = WindowOptions(40, 8)


def example(context: str, question: str = "who is it") -> Example:
    return Example("1", "", question, context, (), True, 0)


@pytest.fixture
def teacher(tmp_path: Path) -> TrainableModel:
    found = tiny.loaded(tiny.checkpoint(tmp_path / "teacher"))
    found.model.eval()
    return found


@pytest.fixture
def student(tmp_path: Path) -> TrainableModel:
    return small.loaded(tmp_path)


def offsets(*pairs: tuple[int, int]) -> Any:
    return np.array(pairs, np.int64).reshape(-1, 2)


def test_meeting_logits_add_up() -> None:
    """`paris` in two pieces, then `is`, to one word each."""
    theirs, ours = offsets((0, 3), (3, 5), (6, 8)), offsets((0, 5), (6, 8))
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    expected = [[np.logaddexp(1, 3), np.logaddexp(2, 4)], [5, 6]]
    np.testing.assert_allclose(align.spread(theirs, values, ours), expected, rtol=1e-6)


def test_a_longer_token_starts_at_the_first_and_ends_at_the_last() -> None:
    theirs, ours = offsets((0, 8)), offsets((0, 3), (3, 5), (5, 8))
    found = align.spread(theirs, np.array([[1.0, 2.0]], np.float32), ours)
    assert found.tolist() == [[1.0, -np.inf], [-np.inf, -np.inf], [-np.inf, 2.0]]


def test_white_space_belongs_to_the_token_after_a_start_and_before_an_end() -> None:
    theirs, ours = offsets((0, 5), (5, 9), (9, 11)), offsets((1, 4), (6, 9))
    found = align.spread(theirs, np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32), ours)
    np.testing.assert_allclose(found, [[1, 2], [np.logaddexp(3, 5), np.logaddexp(4, 6)]], rtol=1e-6)


cuts = st.lists(st.integers(1, 39), max_size=12, unique=True).map(sorted)


def pieces(at: list[int]) -> Any:
    edges = [0, *at, 40]
    return offsets(*itertools.pairwise(edges))


@settings(deadline=None)
@given(cuts, cuts, st.integers(0, 2**31))
def test_no_probability_is_lost(theirs: list[int], ours: list[int], seed: int) -> None:
    """Over every character: the mass that starts, or ends, within a token is that of the teacher's tokens there."""
    mine, other = pieces(ours), pieces(theirs)
    values = np.random.default_rng(seed).normal(size=(len(other), 2)).astype(np.float32) * 4
    found = align.spread(other, values, mine)
    for row, (begin, end) in enumerate(mine):
        starts = [v for (a, _), v in zip(other, values[:, 0], strict=True) if begin <= a < end]
        ends = [v for (_, b), v in zip(other, values[:, 1], strict=True) if begin < b <= end]
        for side, expected in enumerate((starts, ends)):
            total = logsumexp(expected) if expected else -np.inf
            assert found[row, side] == pytest.approx(total, rel=1e-4, abs=1e-4)


def direct(teacher: TrainableModel, question: str, context: str) -> Any:
    """The teacher's logits and offsets of a context that one window holds, without any code of the package."""
    encoded = teacher.tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
    places = encoded.pop("offset_mapping")[0]
    with torch.no_grad():
        out: Any = teacher.model(**encoded)
    logits = torch.stack((out.start_logits[0], out.end_logits[0]), dim=-1).numpy()
    inside = encoded["token_type_ids"][0].bool()
    inside[-1] = False
    return places[inside].numpy(), logits[inside.numpy()], logits[0]


def texts_of(student: TrainableModel, examples: list[Example], info: Any = None) -> Texts:
    class Listed(list):  # type: ignore[type-arg]
        pass

    listed: Any = Listed(examples)
    listed.info = info or type("Info", (), {"sha256": "x"})()
    found: ExampleSet = listed
    return Texts(student, found, OPTIONS)


def asked(teacher: TrainableModel, student: TrainableModel, examples: list[Example], work: Path) -> Any:
    features = build_features(student.tokenizer, examples, OPTIONS, work / "features")
    texts = texts_of(student, examples)
    return features, teacher_logits(teacher, features, work, device="cpu", dtype="float32", texts=texts)


def test_a_window_of_each(teacher: TrainableModel, student: TrainableModel, tmp_path: Path) -> None:
    """Rows of several contexts, in the order of the student's windows; question and separators have none."""
    examples = [example(text) for text in ("paris is the capital of france .", "rome lies on the sea", "oslo")]
    features, logits = asked(teacher, student, examples, tmp_path)
    for index, one in enumerate(examples):
        row = DistilledFeatures(features, logits)[index]
        places, values, null = direct(teacher, one.question, one.context)
        encoded = student.tokenizer(one.question, one.context, return_offsets_mapping=True)
        expected = np.full((len(row["input_ids"]), 2), -np.inf)
        expected[0] = null
        for token, (begin, end) in enumerate(encoded["offset_mapping"]):
            if encoded["token_type_ids"][token] == 1 and end > begin:
                for (a, b), (start, last) in zip(places, values, strict=True):
                    if begin <= a < end:
                        expected[token, 0] = np.logaddexp(expected[token, 0], start)
                    if begin < b <= end:
                        expected[token, 1] = np.logaddexp(expected[token, 1], last)
        np.testing.assert_allclose(row["teacher"], expected, rtol=2**-9, atol=1e-3)


def test_a_long_context_is_shown_in_the_windows_of_either(
    teacher: TrainableModel, student: TrainableModel, tmp_path: Path
) -> None:
    words = [tiny.WORDS[index % len(tiny.WORDS)] for index in range(150)]
    one = example(" ".join(words))
    windows = encode(student.tokenizer, [one], OPTIONS)
    assert len(windows) > 3
    # Each of the student's windows needs several of a teacher that reads 30 tokens.
    teacher.tokenizer.model_max_length = 64
    found = align.ask(teacher, student, [one], OPTIONS)
    assert [s.context for s in found.snippets] == [
        one.context[spans[0][0] : spans[-1][1]]
        for spans in (
            windows.encoding[w].offsets[windows.context_start[w] : windows.context_end[w]] for w in range(len(windows))
        )
    ]
    _, logits = asked(teacher, student, [one], tmp_path)
    assert np.isfinite(logits[:, 0]).sum() == sum(
        windows.context_end[w] - windows.context_start[w] + 1 for w in range(len(windows))
    )


def test_windows_of_the_teacher_are_joined(teacher: TrainableModel, student: TrainableModel) -> None:
    """Where two overlap the larger logit counts, and of "no answer" the least."""
    found = align.ask(teacher, student, [example(" ".join(["paris"] * 25))], WindowOptions(64, 8))
    assert found.taught is not None
    whole = found.taught
    double = replace(
        found, taught=type(whole)(whole.encoding, whole.example * 1, whole.context_start, whole.context_end)
    )
    length = len(whole.encoding["input_ids"][0])
    low, high = np.zeros((length, 2), np.float32), np.ones((length, 2), np.float32)
    two = type(whole)(_Twice(whole.encoding), [0, 0], whole.context_start * 2, whole.context_end * 2)  # type: ignore[arg-type]
    low[null_position(teacher.tokenizer, whole.encoding["input_ids"][0])] = -5
    (mapped,) = align.to_student(replace(double, taught=two), [low, high], teacher, student)
    assert mapped[0].tolist() == [-5, -5]
    context = mapped[found.windows.context_start[0] : found.windows.context_end[0]]
    np.testing.assert_array_equal(context, np.ones_like(context))


class _Twice:
    def __init__(self, encoding: Any) -> None:
        self.encodings = encoding.encodings * 2
        self.ids = encoding["input_ids"] * 2

    def __getitem__(self, name: str) -> Any:
        return self.ids


@pytest.mark.parametrize("context", ["", "   ", "\n"])
def test_nothing_to_read_has_no_answer(
    teacher: TrainableModel, student: TrainableModel, tmp_path: Path, context: str
) -> None:
    features, logits = asked(teacher, student, [example(context), example("paris")], tmp_path)
    assert logits[0].tolist() == [0, 0]
    assert np.isneginf(logits[1 : features.lengths[0]]).all()


def test_the_student_learns_from_them(teacher: TrainableModel, student: TrainableModel, tmp_path: Path) -> None:
    examples = tiny.examples(6)
    features, logits = asked(teacher, student, examples, tmp_path)
    rows = DistilledFeatures(features, logits)
    batch = student.family.collator(student.tokenizer)([rows[index] for index in range(len(rows))])
    loss = distillation_loss(student.family.logits(student.model, batch), batch["teacher"], 2.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert float(loss) > 0
    gradients = [p.grad for p in student.model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_another_text_with_the_same_tokens_is_asked_again(
    teacher: TrainableModel, student: TrainableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [example("paris is in france")]
    features = build_features(student.tokenizer, examples, OPTIONS, tmp_path / "features")
    calls: list[int] = []
    write = distill._write

    def counted(*args: Any) -> int:
        calls.append(1)
        return write(*args)

    monkeypatch.setattr(distill, "_write", counted)
    for digest in ("one", "one", "two"):
        info = type("Info", (), {"sha256": digest})()
        teacher_logits(
            teacher, features, tmp_path, device="cpu", dtype="float32", texts=texts_of(student, examples, info)
        )
    assert len(calls) == 2
