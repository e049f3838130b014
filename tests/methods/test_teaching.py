"""The loss of a student, against torch's own; the teacher's answers on disk, against the teacher; who may teach."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertTokenizer

from compresskit.errors import InputError, RunFailed
from compresskit.methods import teaching
from compresskit.methods.run import _opened
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
from compresskit.models.source import Source
from compresskit.models.task import Ask, Choices, Features, Kept, Lesson
from compresskit.models.tasks.alignment import SameTokens, ThroughCharacters, same_tokens
from compresskit.models.tasks.span_features import SpanFeatures, write_features
from compresskit.models.tasks.spans import SPANS, SpanTask
from tests import tiny
from tests.models.tiny import save

# How many choices each row has, of 9.
CHOICES = (5, 9, 3, 9, 1)


def rows(generator: torch.Generator, scale: float = 3.0) -> Tensor:
    """Logits (5, 9), -inf where a row has no choice."""
    logits = scale * torch.randn(len(CHOICES), max(CHOICES), generator=generator)
    for row, count in enumerate(CHOICES):
        logits[row, count:] = float("-inf")
    return logits


def reference(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`T² · KL` by torch's own function, row by row, over the choices that both have."""
    losses = []
    for own, theirs in zip(student, teacher, strict=True):
        both = own.isfinite() & theirs.isfinite()
        # The student's other choices compete with these: its probabilities are over all that it has.
        own = (own[own.isfinite()] / temperature).log_softmax(0)[both[own.isfinite()]]
        theirs = (theirs[both] / temperature).log_softmax(0)
        losses.append(temperature**2 * functional.kl_div(own, theirs, reduction="sum", log_target=True))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_loss_is_kl_over_the_choices_of_a_row(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = rows(generator).requires_grad_(), rows(generator)
    loss = distillation_loss(student, teacher, temperature)
    loss.backward()
    plain = student.detach().clone().requires_grad_()
    expected = reference(plain, teacher, temperature)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(student.grad, plain.grad)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[0, CHOICES[0] :] == 0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_rows_of_choices_without_any_left_out_are_torchs_own_loss(temperature: float) -> None:
    """A vocabulary: `kl_div` of the whole matrices, `batchmean` over the rows."""
    generator = torch.Generator().manual_seed(6)
    student, teacher = (2 * torch.randn(17, 40, generator=generator) for _ in range(2))
    own, theirs = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
    expected = temperature**2 * functional.kl_div(own, theirs, reduction="batchmean", log_target=True)
    torch.testing.assert_close(distillation_loss(student, teacher, temperature), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_what_either_cannot_choose_is_no_target(temperature: float) -> None:
    """A teacher of the same tokens may have logits at the question's, where the student has none, or the reverse."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(4, 6, generator=generator) for _ in range(2))
    student[:, 1:3] = float("-inf")
    teacher[:2, 3] = float("-inf")
    student.requires_grad_()
    loss = distillation_loss(student, teacher, temperature)
    loss.backward()
    plain = student.detach().clone().requires_grad_()
    expected = reference(plain, teacher, temperature)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(student.grad, plain.grad)
    assert student.grad is not None
    assert student.grad.isfinite().all()
    # What only the student can choose is pushed down.
    assert (student.grad[:2, 3] > 0).all()


def test_a_student_that_agrees_has_no_loss() -> None:
    logits = rows(torch.Generator().manual_seed(2))
    student = logits.clone().requires_grad_()
    loss = distillation_loss(student, logits, 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6


def test_a_shift_of_the_logits_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = rows(generator), rows(generator)
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


def test_the_loss_of_the_labels_is_torchs_own() -> None:
    logits = rows(torch.Generator().manual_seed(5))
    labels = torch.tensor([4, 0, 2, 8, 0])
    by_hand = [-logits[row].log_softmax(0)[label] for row, label in enumerate(labels.tolist())]
    torch.testing.assert_close(cross_entropy(Choices(logits, labels)), torch.stack(by_hand).mean())


def taught_batch(seed: int = 4) -> Any:
    """Six windows with a teacher's logits."""
    generator = np.random.default_rng(seed)
    spans = tiny.Spans(6).rows
    features = [{**row, "teacher": generator.normal(size=(len(row["input_ids"]), 2))} for row in spans]
    return SPANS.collator(tiny.tokenizer())(features)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_objective_mixes_both_losses(weight: float) -> None:
    model, batch = tiny.bert().eval(), taught_batch()
    out = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")})
    masked = batch["attention_mask"] == 0
    hard, soft = [], []
    for side, (logits, label) in enumerate(((out.start_logits, "start"), (out.end_logits, "end"))):
        logits = logits.masked_fill(masked, float("-inf"))
        hard.append(functional.cross_entropy(logits, batch[label]))
        soft.append(reference(logits, batch["teacher"][..., side], 3.0))
    loss = distilled(SPANS, 3.0, weight)(model, batch, 0.0)
    expected = weight * (soft[0] + soft[1]) / 2 + (1 - weight) * (hard[0] + hard[1]) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(supervised(SPANS)(model, batch, 0.0), (hard[0] + hard[1]) / 2)


def gradient(weight: float = 0.5, temperature: float = 2.0, *, labels: int | None = None, seed: int = 4) -> Tensor:
    """All gradients of one batch, as one vector; with `labels`, all labels are that one."""
    model, batch = tiny.bert().eval(), taught_batch(seed)
    if labels is not None:
        batch["start"].fill_(labels)
        batch["end"].fill_(labels)
    distilled(SPANS, temperature, weight)(model, batch, 0.0).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_what_the_gradient_depends_on() -> None:
    """At a weight of 1 the labels have no part in it, at 0 the teacher has none; the temperature does between."""
    assert torch.equal(gradient(1.0), gradient(1.0, labels=1))
    assert not torch.allclose(gradient(0.5), gradient(0.5, labels=1), rtol=1e-3)
    assert torch.equal(gradient(0.0), gradient(0.0, seed=5))
    assert not torch.allclose(gradient(1.0), gradient(1.0, seed=5), rtol=1e-3)
    assert torch.equal(gradient(0.0), gradient(0.0, 7.0))
    assert not torch.allclose(gradient(1.0), gradient(1.0, 7.0), rtol=1e-3)


# The teacher's answers on disk.


@pytest.fixture
def features(tmp_path: Path) -> SpanFeatures:
    return write_features(tiny.tokenizer(), tiny.examples(11), WindowOptions(40, 8), tmp_path / "features")


@pytest.fixture
def teacher(tmp_path: Path) -> LoadedModel:
    return tiny.loaded(tiny.checkpoint(tmp_path / "teacher"))


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Appended to at every computation."""
    calls: list[int] = []
    compute = teaching._write

    def counted(*args: Any, **kwargs: Any) -> int:
        calls.append(1)
        return compute(*args, **kwargs)

    monkeypatch.setattr(teaching, "_write", counted)
    return calls


def ask(teacher: LoadedModel, features: Features, work: Path, dtype: str = "float32") -> Any:
    """What is kept of a teacher of the student's own tokens."""
    examples: Any = None  # such a teacher reads the features alone
    ask_teacher(teacher, SameTokens(), Lesson(features, examples, WindowOptions(40, 8)), work, "cpu", dtype)
    return open_kept(work)["teacher"]


def test_they_are_the_teachers_own(teacher: LoadedModel, features: SpanFeatures, tmp_path: Path) -> None:
    """Each window alone, without padding; fp16 keeps 11 bits."""
    logits = ask(teacher, features, tmp_path)
    assert logits.dtype == np.float16
    assert logits.shape == (features.lengths.sum(), 2)
    assert len(set(features.lengths.tolist())) > 1
    taught = TaughtFeatures(features, {"teacher": logits})
    assert len(taught) == len(features)
    model = tiny.bert().eval()
    for index in range(len(taught)):
        row = taught[index]
        ids, types = (torch.from_numpy(row[k].astype(np.int64))[None] for k in ("input_ids", "token_type_ids"))
        with torch.no_grad():
            out = model(input_ids=ids, token_type_ids=types)
        expected = torch.stack((out.start_logits[0], out.end_logits[0]), dim=-1).numpy()
        np.testing.assert_allclose(row["teacher"], expected, rtol=2**-10, atol=1e-4)
        assert row.keys() == {*features[index], "teacher"}


def test_the_collator_pads_them(teacher: LoadedModel, features: SpanFeatures, tmp_path: Path) -> None:
    taught = TaughtFeatures(features, {"teacher": ask(teacher, features, tmp_path)})
    batch = teacher.task.collator(teacher.tokenizer)([taught[index] for index in range(len(taught))])
    padding = (batch["attention_mask"] == 0)[..., None].expand_as(batch["teacher"])
    assert padding.any()
    assert torch.equal(batch["teacher"] == float("-inf"), padding)


def test_they_are_computed_once(
    teacher: LoadedModel, features: SpanFeatures, tmp_path: Path, count: Sequence[int]
) -> None:
    first = np.array(ask(teacher, features, tmp_path))
    second = ask(teacher, features, tmp_path)
    assert len(count) == 1
    np.testing.assert_array_equal(first, second)


def test_another_teacher_other_features_or_another_dtype(
    teacher: LoadedModel, features: SpanFeatures, tmp_path: Path, count: Sequence[int]
) -> None:
    first = np.array(ask(teacher, features, tmp_path))
    other = tiny.loaded(tiny.checkpoint(tmp_path / "other", seed=9), model=tiny.bert(seed=9))
    assert np.abs(np.array(ask(other, features, tmp_path)) - first).max() > 0.01
    ask(other, features, tmp_path, "bfloat16")
    fewer = write_features(tiny.tokenizer(), tiny.examples(10), WindowOptions(40, 8), tmp_path / "fewer")
    assert len(ask(other, fewer, tmp_path, "bfloat16")) == fewer.lengths.sum()
    assert len(count) == 4
    ask(other, fewer, tmp_path, "bfloat16")
    assert len(count) == 4


def test_a_computation_cut_short_is_taken_again(
    teacher: LoadedModel, features: SpanFeatures, tmp_path: Path, count: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(teaching, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ask(teacher, features, tmp_path)
    ask(teacher, features, tmp_path)
    assert len(count) == 2


def test_a_teacher_that_gives_no_numbers(teacher: LoadedModel, features: SpanFeatures, tmp_path: Path) -> None:
    torch.nn.init.constant_(teacher.model.get_parameter("qa_outputs.bias"), float("nan"))
    with pytest.raises(RunFailed, match="tiny gives logits that are not numbers"):
        ask(teacher, features, tmp_path)
    assert not (tmp_path / "teacher.json").exists()


class Columns:
    """A pairing that keeps two columns of each feature: whole numbers, and logits, some of which fp16 cannot hold."""

    def key(self, lesson: Lesson) -> str:
        return "columns"

    def kept(self, lesson: Lesson, ask: Ask) -> Iterator[tuple[int, Kept]]:
        for index in reversed(range(len(lesson.features))):
            count = int(lesson.features.lengths[index])
            yield index, {"tokens": self.tokens(index, count), "logits": self.logits(index, count)}

    def tokens(self, index: int, count: int) -> Any:
        return np.arange(count * 3, dtype=np.int32).reshape(count, 3) + 100_000 * index

    def logits(self, index: int, count: int) -> Any:
        logits = np.full((count, 2), index / 4, np.float32)
        logits[0] = 1e6, -np.inf
        logits[-1, 1] = -1e6
        return logits


def test_columns_of_any_width_are_kept_in_their_places(
    teacher: LoadedModel, features: SpanFeatures, tmp_path: Path
) -> None:
    examples: Any = None
    columns = Columns()
    ask_teacher(teacher, columns, Lesson(features, examples, WindowOptions(40, 8)), tmp_path, "cpu", "float32")
    taught = TaughtFeatures(features, open_kept(tmp_path))
    for index in range(len(taught)):
        count = int(features.lengths[index])
        assert taught[index]["tokens"].tolist() == columns.tokens(index, count).tolist()
        expected = columns.logits(index, count).clip(-6e4, 6e4)
        expected[0, 1] = -np.inf
        np.testing.assert_allclose(taught[index]["logits"], expected, rtol=2**-10)


# Who may teach.


def test_a_teacher_of_the_same_tokens() -> None:
    assert isinstance(SPANS.pairing(tiny.loaded(), tiny.loaded()), SameTokens)
    assert same_tokens(tiny.loaded(), tiny.loaded())


def test_no_head(tmp_path: Path) -> None:
    folder = save("bert", tmp_path / "base", head="none")
    with pytest.raises(InputError, match=f"{folder} has no trained question-answering head"):
        _opened(Source(str(folder), folder), tiny.loaded())


def test_another_task() -> None:
    class Generation(SpanTask):
        name = "generation"

    class Seq2Seq(EncoderFamily):
        name = "seq2seq"
        task = Generation()

    for teacher, student in (
        (tiny.loaded(), tiny.loaded(family=Seq2Seq())),
        (tiny.loaded(family=Seq2Seq()), tiny.loaded()),
    ):
        with pytest.raises(InputError, match=f"tiny answers by {teacher.task.name}, .* by {student.task.name}"):
            student.task.pairing(teacher, student)


def check_other_tokens(tokenizer: Any) -> None:
    """Readers of spans teach each other across tokenizers."""
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
