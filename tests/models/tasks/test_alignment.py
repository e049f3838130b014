"""A teacher's logits at the tokens of a student of another tokenizer: words, word pieces and bytes, and whole runs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.checkpoint.store import read_json
from compresskit.data.examples import Example
from compresskit.errors import InputError
from compresskit.methods import teaching
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.run import run
from compresskit.methods.teaching import TaughtFeatures, ask_teacher, distillation_loss, open_kept
from compresskit.models.answering import WindowOptions
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from compresskit.models.task import Lesson
from compresskit.models.tasks import alignment
from compresskit.models.tasks.alignment import (
    SameTokens,
    Shown,
    ThroughCharacters,
    same_tokens,
    show,
    spread,
    to_student,
)
from compresskit.models.tasks.span_batches import span_logits
from compresskit.models.tasks.span_features import write_features
from compresskit.models.tasks.windows import Windows, null_position, token_characters
from compresskit.training.arguments import TrainingOptions
from compresskit.training.engine import Engine
from tests.data.reading import read
from tests.models import tiny
from tests.models.lstm import small

Readers = dict[str, TrainableModel]
Ask = Callable[..., Any]

OPTIONS = WindowOptions(40, 8)
PAIRS = [("bert", "roberta"), ("roberta", "bert"), ("lstm", "bert"), ("bert", "lstm"), ("lstm", "roberta")]
CONTEXTS = (
    "The king of France , Édouard,  lives in a bad house \n near Rome.",
    "no face yes " * 12 + "jade-head … naïve bad é",
    "é",
    "  who  ",
)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Readers:
    """Of word pieces, of bytes with merges, and of words."""
    root = tmp_path_factory.mktemp("readers")
    made = {"lstm": small.loaded(root)}
    kinds: tuple[tiny.Kind, ...] = ("bert", "roberta")
    for seed, kind in enumerate(kinds):
        made[kind] = load_trainable(resolve(str(tiny.save(kind, root / kind, seed=seed))))
    made["lstm"].missing_head = False
    return made


def examples_of(*contexts: str) -> list[Example]:
    return [tiny.example("who is bad?", context, id=str(i)) for i, context in enumerate(contexts)]


def random_logits(windows: Windows | None, seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    ids = [] if windows is None else windows.encoding["input_ids"]
    return [generator.normal(0, 3, (len(row), 2)).astype(np.float32) for row in ids]


def context_characters(windows: Windows, window: int) -> dict[int, tuple[int, int]]:
    inside = range(windows.context_start[window], windows.context_end[window])
    return {token: token_characters(windows.encoding, window, token) for token in inside}


def naive(shown: Shown, logits: Any, teacher: Any, student: Any, window: int) -> Any:
    """The student's row by probabilities of characters, one at a time; 0 for "no answer" where nothing is shown."""
    ids = shown.windows.encoding["input_ids"][window]
    own = context_characters(shown.windows, window)
    holder: dict[int, int] = {}
    for token, (begin, end) in own.items():
        for character in range(begin, end):
            holder.setdefault(character, token)
    row = np.full((len(ids), 2), -np.inf)
    nulls = []
    for number in range(len(shown.taught or ()) if window in shown.numbers else 0):
        assert shown.taught is not None
        if shown.numbers[shown.taught.example[number]] != window:
            continue
        nulls.append(logits[number][null_position(teacher.tokenizer, shown.taught.encoding["input_ids"][number])])
        sums = np.zeros((len(ids), 2))
        shift = min(begin for begin, _ in own.values())
        for token, (begin, end) in context_characters(shown.taught, number).items():
            for side, (character, step) in enumerate(((begin + shift, 1), (end + shift - 1, -1))):
                if not holder:
                    continue
                while character not in holder and min(holder) <= character <= max(holder):
                    character += step
                character = min(max(character, min(holder)), max(holder))
                sums[holder[character], side] += math.exp(logits[number][token, side])
        with np.errstate(divide="ignore"):
            row = np.maximum(row, np.log(sums))
    row[null_position(student.tokenizer, ids)] = np.min(nulls, axis=0) if nulls else 0.0
    return row


@pytest.mark.parametrize("longest", [40, 64])
@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_as_character_by_character(
    readers: Readers, teaching: str, learning: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "LONGEST", longest)
    teacher, student, examples = readers[teaching], readers[learning], examples_of(*CONTEXTS)
    shown = show(teacher, student, examples, OPTIONS)
    logits = random_logits(shown.taught)
    rows = list(to_student(shown, logits, teacher, student))
    assert len(rows) == len(shown.windows)
    for window, row in enumerate(rows):
        np.testing.assert_allclose(row, naive(shown, logits, teacher, student, window), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_the_teacher_sees_what_the_student_sees(readers: Readers, teaching: str, learning: str) -> None:
    examples = examples_of(*CONTEXTS)
    shown = show(readers[teaching], readers[learning], examples, OPTIONS)
    assert shown.taught is not None
    for window, snippet in zip(shown.numbers, shown.snippets, strict=True):
        characters = list(context_characters(shown.windows, window).values())
        example = examples[shown.windows.example[window]]
        assert snippet.context == example.context[characters[0][0] : characters[-1][1]]
        assert snippet.question == example.question
    assert set(shown.taught.example) == set(range(len(shown.snippets)))


def test_a_long_snippet_takes_several_of_the_teachers_windows(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that two of them see has the larger value; "no answer" has the least."""
    monkeypatch.setattr(alignment, "LONGEST", 40)
    teacher, student = readers["roberta"], readers["lstm"]
    shown = show(teacher, student, examples_of(CONTEXTS[1]), WindowOptions(64, 8))
    assert shown.taught is not None
    assert len(shown.windows) == 1
    assert len(shown.taught) > 1
    low = [np.full((len(ids), 2), -5.0 - n, np.float32) for n, ids in enumerate(shown.taught.encoding["input_ids"])]
    (before,) = to_student(shown, low, teacher, student)
    for place in (0, 1):
        high = [values.copy() for values in low]
        high[place][:] = 5
        (row,) = to_student(shown, high, teacher, student)
        assert (row >= before).all()
        assert (row > before).any()
        assert row[0].tolist() == [-4.0 - len(low)] * 2


@settings(max_examples=60, deadline=None)
@given(
    context=st.text(alphabet="ab yes\n.,é€-", max_size=12),
    pair=st.sampled_from([("bert", "roberta"), ("roberta", "bert"), ("lstm", "roberta"), ("roberta", "lstm")]),
    seed=st.integers(0, 99),
)
def test_no_probability_is_lost(readers: Readers, context: str, pair: tuple[str, str], seed: int) -> None:
    teacher, student = readers[pair[0]], readers[pair[1]]
    shown = show(teacher, student, examples_of(context), WindowOptions(64, 8))
    logits = random_logits(shown.taught, seed)
    (row,) = to_student(shown, logits, teacher, student)
    assert not np.isnan(row).any()
    null = null_position(student.tokenizer, shown.windows.encoding["input_ids"][0])
    own = context_characters(shown.windows, 0)
    assert not np.isfinite(np.delete(row, [null, *own], axis=0)).any()
    theirs = [] if shown.taught is None else list(context_characters(shown.taught, 0))
    mapped = np.logaddexp.reduce(row[list(own)], axis=0, initial=-np.inf)
    if not theirs or not any(begin < end for begin, end in own.values()):
        assert np.isneginf(mapped).all()
    else:
        np.testing.assert_allclose(mapped, np.logaddexp.reduce(logits[0][theirs], axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("context", ["", " ", "\n \t"])
@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_a_context_without_words(readers: Readers, teaching: str, learning: str, context: str) -> None:
    """It alone, and among others; only "no answer" has a finite logit where no token has a word."""
    teacher, student = readers[teaching], readers[learning]
    for examples in (examples_of(context), examples_of("bad face", context, "yes")):
        shown = show(teacher, student, examples, OPTIONS)
        rows = list(to_student(shown, random_logits(shown.taught), teacher, student))
        assert len(rows) == len(examples)
        row = rows[len(examples) // 2]
        assert np.isfinite(row[0]).all()
        assert not np.isnan(row).any()
        if context != "\n \t":  # whose bytes are tokens
            assert np.isneginf(row[1:]).all()


@pytest.mark.parametrize(
    ("theirs", "starts", "ends"),
    [
        ((0, 3), 0, 0),
        ((1, 2), 0, 0),
        ((3, 5), 2, 0),  # white space: a start belongs to what follows, an end to what precedes
        ((2, 6), 0, 2),
        ((6, 7), 4, 2),
        ((8, 9), 4, 4),  # nothing follows
        ((5, 6), 2, 2),
    ],
)
def test_which_token_is_meant(theirs: tuple[int, int], starts: int, ends: int) -> None:
    """The student has a word, a token without characters, two bytes of one character, and two of another."""
    ours = np.array([(0, 3), (5, 5), (5, 6), (5, 6), (7, 8), (7, 8)])
    mapped = spread(np.array([theirs]), np.array([[1.0, 2.0]], np.float32), ours)
    assert np.flatnonzero(np.isfinite(mapped[:, 0])).tolist() == [starts]
    assert np.flatnonzero(np.isfinite(mapped[:, 1])).tolist() == [ends]
    assert mapped[starts, 0] == 1
    assert mapped[ends, 1] == 2


# On disk, and in a run.


def squad(folder: Path, contexts: tuple[str, ...]) -> Any:
    paragraphs = [
        {"context": c, "qas": [{"id": str(i), "question": "who is bad?", "answers": [], "is_impossible": True}]}
        for i, c in enumerate(contexts)
    ]
    return read(folder, {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]})


@pytest.fixture
def ask(readers: Readers, tmp_path: Path) -> Ask:
    """The logits on disk of a teacher for a student, and the student's features."""

    def asked(teaching: str, learning: str, contexts: tuple[str, ...] = CONTEXTS, dtype: str = "float32") -> Any:
        teacher, student, examples = readers[teaching], readers[learning], squad(tmp_path, contexts)
        features = write_features(student.tokenizer, examples, OPTIONS, tmp_path / f"{learning}-features")
        pairing = student.task.pairing(teacher, student)
        assert pairing is not None
        ask_teacher(teacher, pairing, Lesson(features, examples, OPTIONS), tmp_path, "cpu", dtype)
        return open_kept(tmp_path)["teacher"], features

    return asked


def alone(teacher: Any, student: Any, examples: list[Example]) -> Any:
    """The expected logits: each of the teacher's windows asked by itself, without padding."""
    shown = show(teacher, student, examples, OPTIONS)
    assert shown.taught is not None
    encoding, logits = shown.taught.encoding, []
    collate = teacher.task.collator(teacher.tokenizer)
    teacher.model.eval()
    for ids, types in zip(encoding["input_ids"], encoding["token_type_ids"], strict=True):
        with torch.no_grad():
            values = span_logits(teacher.model, collate([{"input_ids": ids, "token_type_ids": types}]))
        logits.append(values[0, : len(ids)].numpy())
    rows = [naive(shown, logits, teacher, student, window) for window in range(len(shown.windows))]
    return np.concatenate(rows)


@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_what_is_stored(readers: Readers, ask: Ask, teaching: str, learning: str) -> None:
    logits, features = ask(teaching, learning)
    assert logits.dtype == np.float16
    assert logits.shape == (features.lengths.sum(), 2)
    expected = alone(readers[teaching], readers[learning], examples_of(*CONTEXTS))
    np.testing.assert_allclose(logits, expected, rtol=2**-9, atol=2e-3)


@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_the_student_can_learn_from_it(readers: Readers, ask: Ask, teaching: str, learning: str) -> None:
    logits, features = ask(teaching, learning)
    student = readers[learning]
    taught = TaughtFeatures(features, {"teacher": logits})
    batch = student.task.collator(student.tokenizer)([taught[index] for index in range(len(taught))])
    student.model.zero_grad()
    logits_of_student = student.task.choices(student.model, batch).logits
    recalled = student.task.recall(batch, logits_of_student.shape[1])
    loss = distillation_loss(logits_of_student, recalled, 2.0)
    assert math.isfinite(loss.item())
    assert loss.item() > 0
    loss.backward()
    gradients = [p.grad for p in student.model.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_it_is_computed_once(readers: Readers, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again for other texts, even of the same tokens, another dtype, another teacher, and for the direct way."""
    calls: list[int] = []
    write = teaching._write

    def counted(*args: Any) -> dict[str, Any]:
        calls.append(1)
        return write(*args)

    monkeypatch.setattr(teaching, "_write", counted)
    for number, asked in enumerate(
        (
            ("bert", "lstm"),
            ("bert", "lstm", (*CONTEXTS[:-1], "  who ")),
            ("bert", "lstm", CONTEXTS, "bfloat16"),
            ("roberta", "lstm"),
            ("roberta", "bert"),
        ),
        start=1,
    ):
        ask(*asked)
        ask(*asked)
        assert len(calls) == number
    roberta = readers["roberta"]
    _, features = ask("bert", "roberta")
    lesson = Lesson(features, squad(tmp_path, CONTEXTS), OPTIONS)
    keys = set()
    for pairing in (ThroughCharacters(roberta, roberta), SameTokens()):
        ask_teacher(roberta, pairing, lesson, tmp_path, "cpu", "float32")
        keys.add(read_json(tmp_path / "taught" / "teacher.json")["key"])
    assert len(keys) == 2


def test_logits_that_are_no_numbers(ask: Ask, readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    bias = readers["roberta"].model.get_parameter("qa_outputs.bias")
    monkeypatch.setattr(bias, "data", torch.full_like(bias, float("nan")))
    with pytest.raises(InputError, match="gives logits that are not numbers"):
        ask("roberta", "bert")


@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_readers_of_spans_teach_each_other(readers: Readers, teaching: str, learning: str) -> None:
    student = readers[learning]
    assert isinstance(student.task.pairing(readers[teaching], student), ThroughCharacters)
    assert not same_tokens(readers[teaching], readers[learning])


def test_a_run_with_a_teacher_of_another_tokenizer(
    readers: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits are right; where it breaks off before the first step, the next one takes them up."""
    squad(tmp_path, CONTEXTS)
    folders = {kind: str(readers[kind].path) for kind in ("bert", "roberta")}
    options = TrainingOptions(
        folders["bert"],
        tmp_path / "out",
        train_data=str(tmp_path / "set.json"),
        max_steps=3,
        batch_size=4,
        max_length=OPTIONS.max_length,
        stride=OPTIONS.stride,
        device="cpu",
        dtype="float32",
        resume=True,
    )
    job = Job("prune", options, PruneConfig(), Distillation(distill=True, teacher=folders["roberta"]))

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(job)
    expected = alone(readers["roberta"], readers["bert"], examples_of(*CONTEXTS))
    np.testing.assert_allclose(open_kept(tmp_path / "out.partial")["teacher"], expected, rtol=2**-9, atol=2e-3)
    monkeypatch.setattr(teaching, "_write", stopped)
    made = run(job)
    assert read_json(made / "compresskit.json")["steps"][-1]["metrics"]["teacher_sha256"]
