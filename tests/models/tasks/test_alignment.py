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
from compresskit.errors import RunFailed, UsageError
from compresskit.methods import align, distill
from compresskit.methods.prune import apply as pruning
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.teaching import Texts, check_teacher, distillation_loss, open_logits
from compresskit.models.answering import WindowOptions
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source, resolve
from compresskit.models.tasks.alignment import same_tokens
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


def naive(asked: align.Asked, logits: Any, teacher: Any, student: Any, window: int) -> Any:
    """The student's row by probabilities of characters, one at a time; 0 for "no answer" where nothing is asked."""
    ids = asked.windows.encoding["input_ids"][window]
    own = context_characters(asked.windows, window)
    holder: dict[int, int] = {}
    for token, (begin, end) in own.items():
        for character in range(begin, end):
            holder.setdefault(character, token)
    row = np.full((len(ids), 2), -np.inf)
    nulls = []
    for number in range(len(asked.taught or ()) if window in asked.shown else 0):
        assert asked.taught is not None
        if asked.shown[asked.taught.example[number]] != window:
            continue
        nulls.append(logits[number][null_position(teacher.tokenizer, asked.taught.encoding["input_ids"][number])])
        sums = np.zeros((len(ids), 2))
        shift = min(begin for begin, _ in own.values())
        for token, (begin, end) in context_characters(asked.taught, number).items():
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
    monkeypatch.setattr(align, "LONGEST", longest)
    teacher, student, examples = readers[teaching], readers[learning], examples_of(*CONTEXTS)
    asked = align.ask(teacher, student, examples, OPTIONS)
    logits = random_logits(asked.taught)
    rows = list(align.to_student(asked, logits, teacher, student))
    assert len(rows) == len(asked.windows)
    for window, row in enumerate(rows):
        np.testing.assert_allclose(row, naive(asked, logits, teacher, student, window), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_the_teacher_sees_what_the_student_sees(readers: Readers, teaching: str, learning: str) -> None:
    examples = examples_of(*CONTEXTS)
    asked = align.ask(readers[teaching], readers[learning], examples, OPTIONS)
    assert asked.taught is not None
    for window, snippet in zip(asked.shown, asked.snippets, strict=True):
        characters = list(context_characters(asked.windows, window).values())
        example = examples[asked.windows.example[window]]
        assert snippet.context == example.context[characters[0][0] : characters[-1][1]]
        assert snippet.question == example.question
    assert set(asked.taught.example) == set(range(len(asked.snippets)))


def test_a_long_snippet_takes_several_of_the_teachers_windows(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that two of them see has the larger value; "no answer" has the least."""
    monkeypatch.setattr(align, "LONGEST", 40)
    teacher, student = readers["roberta"], readers["lstm"]
    asked = align.ask(teacher, student, examples_of(CONTEXTS[1]), WindowOptions(64, 8))
    assert asked.taught is not None
    assert len(asked.windows) == 1
    assert len(asked.taught) > 1
    low = [np.full((len(ids), 2), -5.0 - n, np.float32) for n, ids in enumerate(asked.taught.encoding["input_ids"])]
    (before,) = align.to_student(asked, low, teacher, student)
    for place in (0, 1):
        high = [values.copy() for values in low]
        high[place][:] = 5
        (row,) = align.to_student(asked, high, teacher, student)
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
    asked = align.ask(teacher, student, examples_of(context), WindowOptions(64, 8))
    logits = random_logits(asked.taught, seed)
    (row,) = align.to_student(asked, logits, teacher, student)
    assert not np.isnan(row).any()
    null = null_position(student.tokenizer, asked.windows.encoding["input_ids"][0])
    own = context_characters(asked.windows, 0)
    assert not np.isfinite(np.delete(row, [null, *own], axis=0)).any()
    theirs = [] if asked.taught is None else list(context_characters(asked.taught, 0))
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
        asked = align.ask(teacher, student, examples, OPTIONS)
        rows = list(align.to_student(asked, random_logits(asked.taught), teacher, student))
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
    mapped = align.spread(np.array([theirs]), np.array([[1.0, 2.0]], np.float32), ours)
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
        features = student.family.features(student.tokenizer, examples, OPTIONS, tmp_path / f"{learning}-features")
        texts = Texts(student, examples, OPTIONS)
        logits = distill.teacher_logits(teacher, features, tmp_path, device="cpu", dtype=dtype, texts=texts)
        return logits, features

    return asked


def alone(teacher: Any, student: Any, examples: list[Example]) -> Any:
    """The expected logits: each of the teacher's windows asked by itself, without padding."""
    asked = align.ask(teacher, student, examples, OPTIONS)
    assert asked.taught is not None
    encoding, logits = asked.taught.encoding, []
    collate = teacher.family.collator(teacher.tokenizer)
    teacher.model.eval()
    for ids, types in zip(encoding["input_ids"], encoding["token_type_ids"], strict=True):
        with torch.no_grad():
            values = teacher.task.logits(teacher.model, collate([{"input_ids": ids, "token_type_ids": types}]))
        logits.append(values[0, : len(ids)].numpy())
    rows = [naive(asked, logits, teacher, student, window) for window in range(len(asked.windows))]
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
    rows = distill.DistilledFeatures(features, logits)
    batch = student.family.collator(student.tokenizer)([rows[index] for index in range(len(rows))])
    teacher = batch.pop("teacher")
    student.model.zero_grad()
    loss = distillation_loss(student.task.logits(student.model, batch), teacher, 2.0)
    assert math.isfinite(loss.item())
    assert loss.item() > 0
    loss.backward()
    gradients = [p.grad for p in student.model.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_what_the_student_cannot_choose_is_no_target() -> None:
    """A teacher of the same tokens may have logits at the question's, where the student has none."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(2, 6, 2, generator=generator) for _ in range(2))
    student[:, 1:3] = float("-inf")
    teacher[:, 3] = float("-inf")
    student.requires_grad_()
    loss = distillation_loss(student, teacher, 1.0)
    loss.backward()
    p, q = student[:, [0, 3, 4, 5]].log_softmax(1), teacher[:, [0, 3, 4, 5]].log_softmax(1)
    expected = (q.exp() * (q - p)).nan_to_num(0.0).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_it_is_computed_once(readers: Readers, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again for other texts, even of the same tokens, another dtype, another teacher, and for the direct way."""
    calls: list[int] = []
    write = distill._write

    def counted(*args: Any) -> int:
        calls.append(1)
        return write(*args)

    monkeypatch.setattr(distill, "_write", counted)
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
    _, features = ask("bert", "roberta")
    before = read_json(tmp_path / "teacher-logits.json")["key"]
    distill.teacher_logits(readers["roberta"], features, tmp_path, device="cpu", dtype="float32")
    assert read_json(tmp_path / "teacher-logits.json")["key"] != before


def test_logits_that_are_no_numbers(ask: Ask, readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    bias = readers["roberta"].model.get_parameter("qa_outputs.bias")
    monkeypatch.setattr(bias, "data", torch.full_like(bias, float("nan")))
    with pytest.raises(RunFailed, match="gives logits that are not numbers"):
        ask("roberta", "bert")


@pytest.mark.parametrize(("teaching", "learning"), PAIRS)
def test_readers_of_spans_teach_each_other(readers: Readers, teaching: str, learning: str) -> None:
    check_teacher(readers[teaching], readers[learning])
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
    run = (PruneConfig(), pruning.Teaching(distill.DistillConfig(), folders["roberta"]))

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            pruning.apply(options, *run)
    expected = alone(readers["roberta"], readers["bert"], examples_of(*CONTEXTS))
    np.testing.assert_allclose(open_logits(tmp_path / "out.partial"), expected, rtol=2**-9, atol=2e-3)
    monkeypatch.setattr(distill, "_write", stopped)
    made = pruning.apply(options, *run)
    assert read_json(made / "compresskit.json")["steps"][-1]["metrics"]["teacher_sha256"]


def test_random_weights_and_a_teacher_of_another_family(readers: Readers) -> None:
    """A teacher takes the place of an untrained base only where it is the same model, trained."""
    lstm, bert = readers["lstm"].path, readers["bert"].path
    assert lstm is not None
    assert bert is not None
    untrained, trained, other = Source("lstm", lstm, untrained=True), Source("trained", lstm), Source("bert", bert)
    with pytest.raises(UsageError, match="lstm has random weights: nothing to prune yet; train it"):
        pruning._base(untrained, other)
    assert pruning._base(untrained, trained) is trained
    assert pruning._base(trained, other) is trained
