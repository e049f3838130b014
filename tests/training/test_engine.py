import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.checkpoint.store import load_tensors
from compresskit.errors import RunFailed, UsageError
from compresskit.methods.teaching import supervised
from compresskit.methods.train import weight_groups
from compresskit.models.tasks.spans import SPANS
from compresskit.training import engine as module
from compresskit.training import state
from compresskit.training.arguments import TrainingOptions
from compresskit.training.computing import compute_dtype
from compresskit.training.engine import Engine
from tests import tiny


def build(
    work: Path, *, model: Any = None, objective: Any = None, count: int = 64, learner: Any = None, **options: Any
) -> Engine:
    spans = tiny.Spans(count)
    settings = TrainingOptions("tiny", work / "out", **{"device": "cpu", "lr": 1e-2, "lr_warmup": 0.0, **options})
    model = tiny.bert() if model is None else model
    work.mkdir(exist_ok=True)
    return Engine(
        model,
        spans,
        spans.lengths,
        SPANS.collator(tiny.tokenizer()),
        objective or supervised(SPANS),
        SPANS.rows,
        weight_groups(model.parameters(), settings),
        settings,
        work,
    )


def lines(work: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_STEPS", 1)


@pytest.mark.usefixtures("every_step")
def test_accumulated_batches_give_the_steps_of_one_large_batch(tmp_path: Path) -> None:
    paths = {}
    for name, size, accumulate in (("one", 16, 1), ("two", 8, 2), ("four", 4, 4)):
        engine = build(tmp_path / name, batch_size=size, accumulate=accumulate, epochs=3, lr=1e-3)
        figures = engine.fit(resume=False)
        assert figures["steps"] == 12
        paths[name] = lines(tmp_path / name)
    for name in ("two", "four"):
        for key in ("loss", "grad_norm", "learning_rate", "epoch"):
            found, expected = [line[key] for line in paths[name]], [line[key] for line in paths["one"]]
            np.testing.assert_allclose(found, expected, rtol=2e-3, err_msg=key)
    epochs = [sum(line["loss"] for line in paths["one"][begin : begin + 4]) for begin in (0, 8)]
    assert epochs[1] < epochs[0]  # it learns


@pytest.mark.usefixtures("every_step")
def test_the_first_loss_is_that_of_the_sampled_batch(tmp_path: Path) -> None:
    """The objective at the untrained model, on the batch that the sampler puts first, by plain transformers."""
    engine = build(tmp_path / "w", batch_size=16, max_steps=1)
    model, spans = tiny.bert(), tiny.Spans(64)
    losses = []
    for index in list(engine._get_train_sampler())[:16]:
        row = spans[index]
        ids = torch.from_numpy(row["input_ids"].astype(np.int64))[None]
        out = model(
            input_ids=ids, start_positions=torch.tensor([row["start"]]), end_positions=torch.tensor([row["end"]])
        )
        losses.append(out.loss.item())
    engine.fit(resume=False)
    assert lines(tmp_path / "w")[0]["loss"] == pytest.approx(sum(losses) / 16, rel=1e-4)


@pytest.mark.usefixtures("every_step")
def test_the_learning_rate_warms_up_and_falls_in_lines(tmp_path: Path) -> None:
    build(tmp_path / "w", max_steps=10, lr=0.1, lr_warmup=0.4, batch_size=8).fit(resume=False)
    found = [line["learning_rate"] for line in lines(tmp_path / "w")]
    rates = [0.1 * step / 4 if step < 4 else 0.1 * (10 - step) / 6 for step in range(11)]
    assert found == pytest.approx(rates[:-1])  # a line tells the rate of the step just taken


def test_no_weight_decay_on_biases_and_norms(tmp_path: Path) -> None:
    """With a gradient of zero AdamW only decays: the product of 1 - lr·decay over the steps."""
    model = tiny.bert()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    def nothing(model: nn.Module, batch: Any, done: float) -> torch.Tensor:
        return 0.0 * torch.stack([p.sum() for p in model.parameters()]).sum()

    build(tmp_path / "w", model=model, objective=nothing, max_steps=5, lr=0.1, weight_decay=0.5).fit(resume=False)
    factor = math.prod(1 - 0.1 * (5 - step) / 5 * 0.5 for step in range(5))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "LayerNorm" in name:
            assert torch.equal(parameter, before[name]), name
        else:
            torch.testing.assert_close(parameter, factor * before[name])


def test_the_objective_hears_how_far_the_run_is(tmp_path: Path) -> None:
    heard: list[float] = []

    def listen(model: nn.Module, batch: Any, done: float) -> torch.Tensor:
        heard.append(done)
        return supervised(SPANS)(model, batch, done)

    build(tmp_path / "w", objective=listen, max_steps=4, batch_size=4, accumulate=2).fit(resume=False)
    assert heard == [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1]  # the last step is the end of every schedule


def test_figures(tmp_path: Path) -> None:
    engine = build(tmp_path / "w", epochs=2, batch_size=24)
    figures = engine.fit(resume=False)
    assert figures["steps"] == 2 * math.ceil(64 / 24)
    assert figures["params_trainable"] == sum(p.numel() for p in tiny.bert().parameters())
    assert 0 < figures["train_loss"] < 10
    assert figures["examples_per_s"] > 0


def fails_at(step: int, value: float, total: int) -> Any:
    def objective(model: nn.Module, batch: Any, done: float) -> torch.Tensor:
        loss = supervised(SPANS)(model, batch, done)
        return loss * value if done >= step / total else loss

    return objective


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("save_steps", [5, 4])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, save_steps: int, value: float) -> None:
    """Found at the next log or the next state, whichever comes first; the last good state stays."""
    work = tmp_path / "w"
    engine = build(work, objective=fails_at(6, value, 30), max_steps=30, batch_size=8, save_steps=save_steps)
    with pytest.raises(RunFailed, match=rf"no longer a number at step \d+ .*state-0000000{save_steps}.*lower --lr"):
        engine.fit(resume=False)
    last = state.latest_state(work)
    assert last == state.state_folder(work, save_steps)
    assert all(torch.isfinite(t).all() for t in load_tensors(last / "parameters.safetensors").values())
    assert [path.name for path in work.glob("state-*")] == [last.name]


def test_a_short_run_that_fails(tmp_path: Path) -> None:
    """Also where neither log nor state looks at it."""
    engine = build(tmp_path / "w", objective=fails_at(2, float("nan"), 4), max_steps=4, save_steps=100)
    with pytest.raises(RunFailed, match="no state was saved before"):
        engine.fit(resume=False)
    assert state.latest_state(tmp_path / "w") is None


def test_a_full_gpu(tmp_path: Path) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunFailed, match="lower --batch-size"):
        build(tmp_path / "w", objective=full, max_steps=1).fit(resume=False)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(("stop", "last"), [(5, 4), (8, 8), (11, 8), (19, 16)])
def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path, stop: int, last: int) -> None:
    """8 steps an epoch: within the first, at its end, within the second, and in the third. With dropout."""

    def noisy() -> Any:
        model = tiny.bert()
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.1
        return model.train()

    def interrupted(model: nn.Module, batch: Any, done: float) -> torch.Tensor:
        if done >= stop / 24:
            raise Interrupted
        return supervised(SPANS)(model, batch, done)

    settings: dict[str, Any] = {"max_steps": 24, "batch_size": 8, "save_steps": 4}
    torch.manual_seed(7)
    whole = noisy()
    expected = build(tmp_path / "whole", model=whole, **settings).fit(resume=False)
    torch.manual_seed(7)
    with pytest.raises(Interrupted):
        build(tmp_path / "w", model=noisy(), objective=interrupted, **settings).fit(resume=False)
    assert state.latest_state(tmp_path / "w") == state.state_folder(tmp_path / "w", last)
    again = noisy()
    torch.manual_seed(12345)
    found = build(tmp_path / "w", model=again, **settings).fit(resume=True)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
    assert found["steps"] == expected["steps"] == 24
    logs = [[(line["step"], line["learning_rate"]) for line in lines(tmp_path / name)] for name in ("whole", "w")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(("dtype", "expected"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_dtypes(tmp_path: Path, dtype: Any, expected: str) -> None:
    assert compute_dtype(TrainingOptions("m", tmp_path, device="cpu", dtype=dtype)) == expected
    with pytest.raises(UsageError, match=r"^--dtype float16 "):
        TrainingOptions("m", tmp_path, device="cpu", dtype="float16")  # type: ignore[arg-type]


def test_one_process_is_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of several, the Trainer would spread the batch over all of them by DataParallel."""

    class Arguments:
        n_gpu = 4

        def __init__(self, **_: Any) -> None:
            pass

    monkeypatch.setattr(module, "TrainingArguments", Arguments)
    assert module.training_arguments(TrainingOptions("tiny", tmp_path / "out", lr=1.0), tmp_path)._n_gpu == 1


def test_the_last_step_is_logged(tmp_path: Path) -> None:
    """Also where the run's end is no multiple of the interval between two lines."""
    build(tmp_path / "w", max_steps=13, batch_size=8).fit(resume=False)
    assert [line["step"] for line in lines(tmp_path / "w")] == [10, 13]
