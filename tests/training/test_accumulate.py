"""A step is one step, however its windows are cut into batches: gradients of several cuts, and of one plain pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, T5Config, T5ForConditionalGeneration, TrainerCallback

from compresskit.methods.method import Attached
from compresskit.methods.penalties import with_penalties
from compresskit.methods.teaching import distilled, supervised
from compresskit.methods.train import weight_groups
from compresskit.models.task import Task
from compresskit.models.tasks.causal import CAUSAL, CausalCollator
from compresskit.models.tasks.generation import GENERATION
from compresskit.models.tasks.spans import SPANS
from compresskit.models.tasks.target_features import TargetCollator
from compresskit.training.arguments import TrainingOptions
from compresskit.training.computing import Objective
from compresskit.training.engine import Engine
from tests import tiny

VOCABULARY = 29
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


class Rows(Sequence[dict[str, Any]]):
    """Four features; targets of generation have 1, 9, 4 and 2 tokens. With the answers of a teacher."""

    def __init__(self, task: Task, *, with_teacher: bool) -> None:
        generator = np.random.default_rng(3)
        spans = tiny.Spans(4)
        self.lengths = spans.lengths
        self.rows: list[dict[str, Any]] = []
        for row, count in zip(spans, (1, 9, 4, 2), strict=True):
            length = len(row["input_ids"])
            teacher: dict[str, Any]
            if task is SPANS:
                teacher = {"teacher": generator.normal(size=(length, 2)).astype(np.float32)}
            else:
                tokens = np.stack([generator.permutation(VOCABULARY)[:5] for _ in range(count)]).astype(np.int32)
                teacher = {
                    "teacher": generator.normal(size=(count, 5)).astype(np.float32),
                    "teacher_tokens": tokens,
                }
                ids, labels = (generator.integers(2, VOCABULARY, size) for size in (length, count))
                row = {"input_ids": ids.astype(np.int32), "labels": labels.astype(np.int32), "index": row["index"]}
            self.rows.append({**row, **(teacher if with_teacher else {})})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]


def made(task: Task) -> tuple[Any, Callable[[Any], Any]]:
    """A model without dropout, always the same, and how its features become a batch."""
    torch.manual_seed(4)
    if task is SPANS:
        return tiny.bert(), SPANS.collator(tiny.tokenizer())
    if task is CAUSAL:
        config = GPTNeoXConfig(**SMALL, intermediate_size=32, max_position_embeddings=64)
        return GPTNeoXForCausalLM(config), CausalCollator(0)
    t5 = T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    t5.decoder_start_token_id = 0
    return T5ForConditionalGeneration(t5), TargetCollator(0)


class Kept(TrainerCallback):
    """The gradients of the first step."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if not self.gradients:
            self.gradients = {n: p.grad.clone() for n, p in more["model"].named_parameters() if p.grad is not None}


def gradients(
    task: Task, work: Path, size: int, accumulate: int, objective: Objective, *, count: int = 4, teacher: bool = False
) -> dict[str, Tensor]:
    """Those of a step of `count` windows, cut into batches of `size`."""
    model, collator = made(task)
    options = TrainingOptions(
        "tiny", work / "out", device="cpu", max_steps=1, batch_size=size, accumulate=accumulate, lr=1e-3
    )
    # Not clipped, or a gradient that is too large would be told by its direction alone.
    object.__setattr__(options, "max_grad_norm", 1e9)
    rows, kept = Rows(task, with_teacher=teacher), Kept()
    rows.rows, rows.lengths = rows.rows[:count], rows.lengths[:count]
    work.mkdir(exist_ok=True)
    groups = weight_groups(model.parameters(), options)
    engine = Engine(model, rows, rows.lengths, collator, objective, task.rows, groups, options, work)
    engine.add_callback(kept)
    engine.fit(resume=False)
    return kept.gradients


TASKS = pytest.mark.parametrize("task", [SPANS, GENERATION, CAUSAL], ids=["spans", "seq2seq", "causal"])


@TASKS
@pytest.mark.parametrize("teacher", [False, True], ids=["labels", "teacher"])
def test_the_cut_of_a_step_has_no_part_in_its_gradient(task: Task, teacher: bool, tmp_path: Path) -> None:
    objective = distilled(task, 2.0, 0.7) if teacher else supervised(task)
    model, collator = made(task)
    objective(model, collator(Rows(task, with_teacher=teacher).rows), 0.0).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for size, accumulate in ((2, 2), (1, 4), (3, 2)):
        work = tmp_path / f"{size}x{accumulate}"
        found = gradients(task, work, size, accumulate, objective, teacher=teacher)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            largest = float(expected[name].abs().max())
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5 + 1e-4 * largest, msg=name)


@TASKS
def test_an_epoch_may_end_with_less(task: Task, tmp_path: Path) -> None:
    """Three windows: batches of two and one, or of three."""
    whole, cut = (
        gradients(task, tmp_path / f"{size}", size, accumulate, supervised(task), count=3)
        for size, accumulate in ((4, 1), (2, 2))
    )
    for name, gradient in cut.items():
        largest = float(whole[name].abs().max())
        torch.testing.assert_close(gradient, whole[name], rtol=1e-3, atol=1e-5 + 1e-4 * largest, msg=name)


class Penalized(Attached):
    """Half the sum of squares of one weight is added to the loss: its gradient is the weight."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def step(self, done: float) -> Tensor:
        return 50 * self.weight.square().sum()

    def save(self, folder: Path) -> None:
        raise AssertionError("nothing is saved")


def test_a_penalty_counts_once_a_step(tmp_path: Path) -> None:
    """It is added to every batch, whatever that one's part in the rows of the step."""
    plain = gradients(CAUSAL, tmp_path / "plain", 4, 1, supervised(CAUSAL))
    name = "gpt_neox.embed_in.weight"
    for size, accumulate in ((4, 1), (2, 2), (1, 4)):

        def objective(model: nn.Module, batch: Any, done: float) -> Tensor:
            attached = Penalized(model.get_parameter(name))
            loaded = tiny.loaded(model=model)
            return with_penalties(supervised(CAUSAL), loaded, attached)(model, batch, done)

        found = gradients(CAUSAL, tmp_path / f"{size}", size, accumulate, objective)
        expected = plain[name] + 100 * made(CAUSAL)[0].get_parameter(name).detach()
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_windows_of_spans_weigh_as_before(accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of equally many windows: to the last bit what the mean over batches is."""
    found = gradients(SPANS, tmp_path / "ours", 2, accumulate, supervised(SPANS))
    monkeypatch.setattr(Engine, "compute_loss", lambda self, model, inputs, **_: self._objective(model, inputs, 0.0))
    expected = gradients(SPANS, tmp_path / "mean", 2, accumulate, supervised(SPANS))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
