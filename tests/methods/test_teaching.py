import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import BertTokenizer

from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods import distill
from compresskit.methods.teaching import (
    DistillConfig,
    DistilledFeatures,
    check_teacher,
    distillation_loss,
    distilled,
    teacher_logits,
)
from compresskit.models.answering import WindowOptions
from compresskit.models.encoder import EncoderFamily
from compresskit.models.loaded import LoadedModel
from compresskit.models.tasks.alignment import same_tokens
from compresskit.models.tasks.span_features import SpanFeatures, write_features
from tests import tiny

LENGTHS = (5, 9, 3, 9)


def padded(generator: torch.Generator, scale: float = 3.0) -> torch.Tensor:
    logits = scale * torch.randn(len(LENGTHS), max(LENGTHS), 2, generator=generator)
    for row, length in enumerate(LENGTHS):
        logits[row, length:] = float("-inf")
    return logits


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_loss_is_kl_of_the_unpadded_rows(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = padded(generator).requires_grad_(), padded(generator)
    loss = distillation_loss(student, teacher, temperature)
    loss.backward()

    plain = student.detach().clone().requires_grad_()
    rows = []
    for row, length in enumerate(LENGTHS):
        for output in range(2):
            p = functional.log_softmax(plain[row, :length, output] / temperature, dim=0)
            q = functional.log_softmax(teacher[row, :length, output] / temperature, dim=0)
            rows.append(temperature**2 * functional.kl_div(p, q, reduction="sum", log_target=True))
    expected = torch.stack(rows).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(student.grad, plain.grad)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[0, LENGTHS[0] :] == 0).all()


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
    teacher = torch.full((1, 4, 2), -6e4)
    teacher[0, 1] = 6e4
    student = torch.randn(1, 4, 2, requires_grad=True)
    loss = distillation_loss(student, teacher, 1.0)
    loss.backward()
    expected = functional.cross_entropy(student.detach().transpose(1, 2).reshape(2, 4), torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_objective_mixes_both_losses(weight: float) -> None:
    family, model = EncoderFamily(), tiny.bert().eval()
    spans = tiny.Spans(6)
    rows = [{**row, "teacher": np.random.default_rng(4).normal(size=(len(row["input_ids"]), 2))} for row in spans.rows]
    batch = family.collator(tiny.tokenizer())(rows)
    soft = distillation_loss(family.logits(model, batch), batch["teacher"], 3.0)
    out = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")})
    masked = batch["attention_mask"] == 0
    hard = [
        functional.cross_entropy(logits.masked_fill(masked, float("-inf")), batch[label])
        for logits, label in ((out.start_logits, "start"), (out.end_logits, "end"))
    ]
    loss = distilled(family, DistillConfig(3.0, weight))(model, batch, 0.0)
    torch.testing.assert_close(loss, weight * soft + (1 - weight) * (hard[0] + hard[1]) / 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"weight": -0.1},
        {"weight": 1.1},
        {"weight": math.nan},
        {"temperature": math.inf},
    ],
)
def test_settings_that_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"--temperature must be above 0 and finite, and --distill-weight in \[0, 1\]"):
        DistillConfig(**settings)


# The teacher's logits on disk.


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
    compute = distill._write

    def counted(*args: Any, **kwargs: Any) -> int:
        calls.append(1)
        return compute(*args, **kwargs)

    monkeypatch.setattr(distill, "_write", counted)
    return calls


def ask(teacher: LoadedModel, features: SpanFeatures, work: Path, dtype: str = "float32") -> Any:
    return teacher_logits(teacher, features, work, device="cpu", dtype=dtype)


def test_they_are_the_teachers_own(teacher: LoadedModel, features: SpanFeatures, tmp_path: Path) -> None:
    """Each window alone, without padding; fp16 keeps 11 bits."""
    logits = ask(teacher, features, tmp_path)
    assert logits.dtype == np.float16
    assert logits.shape == (features.lengths.sum(), 2)
    assert len(set(features.lengths.tolist())) > 1
    rows = DistilledFeatures(features, logits)
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


def test_the_collator_pads_them(teacher: LoadedModel, features: SpanFeatures, tmp_path: Path) -> None:
    rows = DistilledFeatures(features, ask(teacher, features, tmp_path))
    batch = teacher.family.collator(teacher.tokenizer)([rows[index] for index in range(len(rows))])
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
        patch.setattr(distill, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ask(teacher, features, tmp_path)
    ask(teacher, features, tmp_path)
    assert len(count) == 2


def test_a_teacher_that_gives_no_numbers(teacher: LoadedModel, features: SpanFeatures, tmp_path: Path) -> None:
    torch.nn.init.constant_(teacher.model.get_parameter("qa_outputs.bias"), float("nan"))
    with pytest.raises(RunFailed, match="teacher tiny gives logits that are not numbers"):
        ask(teacher, features, tmp_path)
    assert not (tmp_path / "teacher-logits.json").exists()


# Who may teach.


def test_a_teacher_of_the_same_kind() -> None:
    check_teacher(tiny.loaded(), tiny.loaded())
    assert same_tokens(tiny.loaded(), tiny.loaded())


def test_no_head() -> None:
    with pytest.raises(InputError, match="no trained question-answering head"):
        check_teacher(tiny.loaded(missing_head=True), tiny.loaded())


def test_another_family() -> None:
    class Seq2Seq(EncoderFamily):
        name = "seq2seq"
        extractive = False

    with pytest.raises(InputError, match="of family seq2seq, the student tiny of encoder"):
        check_teacher(tiny.loaded(family=Seq2Seq()), tiny.loaded())


def check_other_tokens(tokenizer: Any) -> None:
    """Readers of spans may teach each other across tokenizers; models that generate text may not."""

    class Generating(EncoderFamily):
        name = "generating"
        extractive = False

    teacher, family = tiny.loaded(tokenizer=tokenizer), Generating()
    check_teacher(teacher, tiny.loaded())
    assert not same_tokens(teacher, tiny.loaded())
    with pytest.raises(InputError, match="another tokenizer"):
        check_teacher(tiny.loaded(tokenizer=tokenizer, family=family), tiny.loaded(family=family))


def test_another_vocabulary() -> None:
    swapped = [*tiny.TOKENS[:-2], tiny.TOKENS[-1], tiny.TOKENS[-2]]
    for tokens in (swapped, [*tiny.TOKENS, "more"], tiny.TOKENS[:-1]):
        check_other_tokens(tiny.tokenizer(tokens))


def test_the_same_vocabulary_read_in_another_way() -> None:
    """Cased and uncased tokens of one vocabulary."""
    cased = BertTokenizer(vocab={t: i for i, t in enumerate(tiny.TOKENS)}, do_lower_case=False)
    check_other_tokens(cased)
