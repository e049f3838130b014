"""What a student learns from: the formula, the mix with the labels, and the teacher's answers on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import BertTokenizer

from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.errors import InputError
from compresskit.methods import teaching
from compresskit.methods.teaching import (
    TaughtFeatures,
    ask_teacher,
    cross_entropy,
    distillation_loss,
    distilled,
    open_kept,
    supervised,
)
from compresskit.models.answering import WindowOptions
from compresskit.models.encoder import EncoderFamily
from compresskit.models.loaded import LoadedModel
from compresskit.models.registry import require_head
from compresskit.models.task import Choices, Lesson
from compresskit.models.tasks.alignment import SameTokens, ThroughCharacters, same_tokens
from compresskit.models.tasks.spans import SPANS, SpanTask
from tests import tiny
from tests.contract import makers

LENGTHS = (5, 9, 3, 9)
ABSENT = float("-inf")


def padded(generator: torch.Generator, scale: float = 3.0) -> torch.Tensor:
    """Rows of choices, of which each has some; the rest are none."""
    logits = scale * torch.randn(len(LENGTHS), max(LENGTHS), generator=generator)
    for row, length in enumerate(LENGTHS):
        logits[row, length:] = ABSENT
    return logits


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_loss_is_kl_of_the_rows(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (3 * torch.randn(6, 7, generator=generator) for _ in range(2))
    ours, plain = student.clone().requires_grad_(), student.clone().requires_grad_()
    loss = distillation_loss(ours, teacher, temperature)
    p, q = (functional.log_softmax(logits / temperature, dim=1) for logits in (plain, teacher))
    expected = temperature**2 * functional.kl_div(p, q, reduction="batchmean", log_target=True)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, plain.grad)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_what_is_no_choice_has_no_part(temperature: float) -> None:
    """KL of each row's own choices, cut out by hand."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = padded(generator).requires_grad_(), padded(generator)
    loss = distillation_loss(student, teacher, temperature)
    loss.backward()

    plain = student.detach().clone().requires_grad_()
    rows = []
    for row, length in enumerate(LENGTHS):
        p = functional.log_softmax(plain[row, :length] / temperature, dim=0)
        q = functional.log_softmax(teacher[row, :length] / temperature, dim=0)
        rows.append(temperature**2 * functional.kl_div(p, q, reduction="sum", log_target=True))
    expected = torch.stack(rows).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(student.grad, plain.grad)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[0, LENGTHS[0] :] == 0).all()


def test_choices_that_only_one_of_them_has() -> None:
    """The student's alone stay in its distribution, without a target; the teacher's alone leave the target."""
    generator = torch.Generator().manual_seed(6)
    student, teacher = torch.randn(2, 5, generator=generator), torch.randn(2, 5, generator=generator)
    teacher[0, 3:] = ABSENT
    student[1, :2] = ABSENT
    student.requires_grad_()
    loss = distillation_loss(student, teacher, 2.0)
    loss.backward()
    targets = (teacher[0, :3] / 2).softmax(0), (teacher[1, 2:] / 2).softmax(0)
    logs = (student[0] / 2).log_softmax(0)[:3], (student[1, 2:] / 2).log_softmax(0)
    rows = [4 * functional.kl_div(log, target, reduction="sum") for log, target in zip(logs, targets, strict=True)]
    torch.testing.assert_close(loss, torch.stack(rows).mean())
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[0, 3:] != 0).all()


def test_a_student_that_agrees_has_no_loss() -> None:
    logits = padded(torch.Generator().manual_seed(2))
    student = logits.clone().requires_grad_()
    loss = distillation_loss(student, logits, 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6


def test_a_shift_of_the_logits_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = padded(generator), padded(generator)
    torch.testing.assert_close(
        distillation_loss(student + 5, teacher - 7, 2.0), distillation_loss(student, teacher, 2.0), rtol=1e-4, atol=1e-5
    )


def test_a_teacher_without_doubt() -> None:
    """Probabilities that underflow to 0 must not give 0 · log 0 = NaN."""
    teacher = torch.full((2, 4), -6e4)
    teacher[:, 1] = 6e4
    student = torch.randn(2, 4, requires_grad=True)
    loss = distillation_loss(student, teacher, 1.0)
    loss.backward()
    expected = functional.cross_entropy(student.detach(), torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_the_labels_are_one_of_each_row() -> None:
    generator = torch.Generator().manual_seed(7)
    logits, labels = padded(generator), torch.tensor([4, 0, 2, 8])
    found = cross_entropy(Choices(logits, labels))
    rows = [logits[row, :length].exp() for row, length in enumerate(LENGTHS)]
    expected = [-float((row[label] / row.sum()).log()) for row, label in zip(rows, labels, strict=True)]
    assert found.item() == pytest.approx(sum(expected) / len(LENGTHS), rel=1e-5)


def taught_batch(moved: int = 0) -> Any:
    """Six windows with a teacher's logits; the labels of each are `moved` tokens on."""
    generator = np.random.default_rng(4)
    rows: list[Any] = []
    for row in tiny.Spans(6).rows:
        length = len(row["input_ids"])
        labels = {label: (row[label] + moved) % length for label in ("start", "end")}
        rows.append({**row, **labels, "teacher": generator.normal(size=(length, 2))})
    return SPANS.collator(tiny.tokenizer())(rows)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_objective_mixes_both_losses(weight: float) -> None:
    model, batch = tiny.bert().eval(), taught_batch()
    out = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")})
    hard, soft = [], []
    for number, (logits, label) in enumerate(((out.start_logits, "start"), (out.end_logits, "end"))):
        for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
            own = logits[row, :length]
            hard.append(functional.cross_entropy(own, batch[label][row]))
            p, q = ((each / 3).log_softmax(0) for each in (own, batch["teacher"][row, :length, number]))
            soft.append(9 * functional.kl_div(p, q, reduction="sum", log_target=True))
    assert len(hard) == 12
    expected = weight * torch.stack(soft).mean() + (1 - weight) * torch.stack(hard).mean()
    torch.testing.assert_close(distilled(SPANS, 3.0, weight)(model, batch, 0.0), expected)
    torch.testing.assert_close(supervised(SPANS)(model, batch, 0.0), torch.stack(hard).mean())


def gradients(temperature: float, weight: float, moved: int = 0) -> torch.Tensor:
    """All gradients of the objective, flat."""
    model = tiny.bert()
    distilled(SPANS, temperature, weight)(model, taught_batch(moved), 0.0).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_teacher_alone_needs_no_labels() -> None:
    assert torch.equal(gradients(2.0, 1.0), gradients(2.0, 1.0, moved=3))
    assert not torch.allclose(gradients(2.0, 0.9), gradients(2.0, 0.9, moved=3))


def test_the_temperature_has_no_part_in_the_labels_loss() -> None:
    assert torch.equal(gradients(1.0, 0.0), gradients(4.0, 0.0))
    assert not torch.allclose(gradients(1.0, 1.0), gradients(4.0, 1.0), rtol=0.01)


# The teacher's answers on disk.


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    return load_data(str(makers.data(tmp_path_factory.mktemp("data") / "data.json")), "train")


def lesson_of(examples: ExampleSet, folder: Path) -> Lesson:
    options = WindowOptions(40, 8)
    SPANS.write(tiny.tokenizer(), examples, options, folder)
    return Lesson(SPANS.open(folder), examples, options)


@pytest.fixture
def lesson(examples: ExampleSet, tmp_path: Path) -> Lesson:
    return lesson_of(examples, tmp_path / "features")


@pytest.fixture
def teacher(tmp_path: Path) -> LoadedModel:
    return tiny.loaded(tiny.checkpoint(tmp_path / "teacher"))


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Appended to at every computation."""
    calls: list[int] = []
    compute = teaching._write

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return compute(*args, **kwargs)

    monkeypatch.setattr(teaching, "_write", counted)
    return calls


def ask(teacher: LoadedModel, lesson: Lesson, work: Path, dtype: str = "float32") -> Any:
    """The teacher's logits of all windows, shape (tokens, 2)."""
    ask_teacher(teacher, SPANS.pairing(teacher, tiny.loaded()), lesson, work, "cpu", dtype)
    kept = open_kept(work)
    assert kept.keys() == {"teacher"}
    return kept["teacher"]


def test_they_are_the_teachers_own(teacher: LoadedModel, lesson: Lesson, tmp_path: Path) -> None:
    """Each window alone, without padding; fp16 keeps 11 bits."""
    logits, features = ask(teacher, lesson, tmp_path), lesson.features
    assert logits.dtype == np.float16
    assert logits.shape == (features.lengths.sum(), 2)
    assert len(set(features.lengths.tolist())) > 1
    rows = TaughtFeatures(features, open_kept(tmp_path))
    assert len(rows) == len(features)
    model = tiny.bert().eval()
    for index in range(len(rows)):
        row = rows[index]
        ids, types = (torch.from_numpy(row[k].astype(np.int64))[None] for k in ("input_ids", "token_type_ids"))
        with torch.no_grad():
            out = model(input_ids=ids, token_type_ids=types)
        expected = torch.stack((out.start_logits[0], out.end_logits[0]), dim=-1).numpy()
        np.testing.assert_allclose(row["teacher"], expected, rtol=2**-10, atol=1e-4)
        assert row.keys() == {*features[index], "teacher"}


def test_the_collator_pads_them(teacher: LoadedModel, lesson: Lesson, tmp_path: Path) -> None:
    ask(teacher, lesson, tmp_path)
    rows = TaughtFeatures(lesson.features, open_kept(tmp_path))
    batch = SPANS.collator(teacher.tokenizer)([rows[index] for index in range(len(rows))])
    padding = (batch["attention_mask"] == 0)[..., None].expand_as(batch["teacher"])
    assert padding.any()
    assert torch.equal(batch["teacher"] == ABSENT, padding)


def test_what_fp16_cannot_hold_is_cut_and_what_is_no_choice_stays() -> None:
    """Whole numbers, such as those of tokens, are kept as they are."""
    found = teaching._stored(np.array([[1e6, -1e6, -np.inf, 0.5]], dtype=np.float32))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, np.array([[6e4, -6e4, -np.inf, 0.5]], dtype=np.float16))
    whole = np.array([[70_000, 3]], dtype=np.int32)
    assert teaching._stored(whole).dtype == np.int32
    np.testing.assert_array_equal(teaching._stored(whole), whole)


def test_they_are_computed_once(teacher: LoadedModel, lesson: Lesson, tmp_path: Path, count: Sequence[int]) -> None:
    first = np.array(ask(teacher, lesson, tmp_path))
    second = ask(teacher, lesson, tmp_path)
    assert len(count) == 1
    np.testing.assert_array_equal(first, second)


def test_another_teacher_other_features_or_another_dtype(
    teacher: LoadedModel, lesson: Lesson, examples: ExampleSet, tmp_path: Path, count: Sequence[int]
) -> None:
    first = np.array(ask(teacher, lesson, tmp_path))
    other = tiny.loaded(tiny.checkpoint(tmp_path / "other", seed=9), model=tiny.bert(seed=9))
    assert np.abs(np.array(ask(other, lesson, tmp_path)) - first).max() > 0.01
    ask(other, lesson, tmp_path, "bfloat16")
    fewer = lesson_of(examples.sample(10, 0), tmp_path / "fewer")
    assert len(ask(other, fewer, tmp_path, "bfloat16")) == fewer.features.lengths.sum()
    assert len(count) == 4
    ask(other, fewer, tmp_path, "bfloat16")
    assert len(count) == 4


def test_other_texts_of_the_same_tokens(tmp_path: Path, count: Sequence[int]) -> None:
    """Words that the student does not tell apart: a teacher of other tokens is asked again, one of the same is not."""
    made = makers.data(tmp_path / "data.json").read_text()
    lessons = []
    for word in ("9999", "8888"):
        path = tmp_path / f"{word}.json"
        path.write_text(made.replace("lies", word))
        lessons.append(lesson_of(load_data(str(path), "train"), tmp_path / word))
    first, second = lessons
    assert first.features.fingerprint() == second.features.fingerprint()
    for tokens, times in ((tiny.TOKENS, 1), ([*tiny.TOKENS[:-2], "?", ","], 3)):
        teacher = tiny.loaded(
            tiny.checkpoint(tmp_path / f"teacher-{times}", tokens=tokens), tokenizer=tiny.tokenizer(tokens)
        )
        for lesson in (first, first, second, second):
            ask(teacher, lesson, tmp_path / f"teacher-{times}")
        assert len(count) == times


def test_a_computation_cut_short_is_taken_again(
    teacher: LoadedModel, lesson: Lesson, tmp_path: Path, count: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(teaching, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ask(teacher, lesson, tmp_path)
    ask(teacher, lesson, tmp_path)
    assert len(count) == 2


def test_a_teacher_that_gives_no_numbers(teacher: LoadedModel, lesson: Lesson, tmp_path: Path) -> None:
    torch.nn.init.constant_(teacher.model.get_parameter("qa_outputs.bias"), float("nan"))
    with pytest.raises(InputError, match="teacher tiny gives logits that are not numbers") as caught:
        ask(teacher, lesson, tmp_path)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "taught").exists()


# Who may teach.


def test_a_teacher_of_the_same_kind() -> None:
    assert isinstance(SPANS.pairing(tiny.loaded(), tiny.loaded()), SameTokens)
    assert same_tokens(tiny.loaded(), tiny.loaded())


def test_no_head() -> None:
    with pytest.raises(InputError, match="no trained question-answering head") as caught:
        require_head(tiny.loaded(missing_head=True))
    assert caught.value.exit_code == 3


def test_a_teacher_of_another_task() -> None:
    class Generation(SpanTask):
        name = "generation"

    class Generating(EncoderFamily):
        task = Generation()

    with pytest.raises(InputError, match="teacher tiny answers by generation, the student tiny by spans") as caught:
        SPANS.pairing(tiny.loaded(family=Generating()), tiny.loaded())
    assert caught.value.exit_code == 3


def check_other_tokens(tokenizer: Any) -> None:
    """Readers of spans may teach each other across tokenizers."""
    teacher = tiny.loaded(tokenizer=tokenizer)
    assert isinstance(SPANS.pairing(teacher, tiny.loaded()), ThroughCharacters)
    assert not same_tokens(teacher, tiny.loaded())


def test_another_vocabulary() -> None:
    swapped = [*tiny.TOKENS[:-2], tiny.TOKENS[-1], tiny.TOKENS[-2]]
    for tokens in (swapped, [*tiny.TOKENS, "more"], tiny.TOKENS[:-1]):
        check_other_tokens(tiny.tokenizer(tokens))


def test_the_same_vocabulary_read_in_another_way() -> None:
    """Cased and uncased tokens of one vocabulary."""
    cased = BertTokenizer(vocab={t: i for i, t in enumerate(tiny.TOKENS)}, do_lower_case=False)
    check_other_tokens(cased)
