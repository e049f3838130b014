"""A run that was interrupted goes on to another end than it was begun for; a finished one says what is possible."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.store import read_json
from compresskit.errors import UsageError
from compresskit.methods import run as module
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.penalties import with_penalties
from compresskit.methods.prune.config import PruneConfig
from compresskit.training import engine
from compresskit.training.arguments import TrainingOptions
from compresskit.training.callbacks import Progress
from tests.contract import makers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("longer")
    makers.made("encoder", folder / "encoder")
    makers.data(folder / "data.json")
    return folder


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOG_STEPS", 1)


def job(root: Path, output: Path, **changes: Any) -> Job:
    known: dict[str, Any] = {"batch_size": 4, "device": "cpu", "max_length": 48, "stride": 8, "save_steps": 2}
    known |= {"train_data": str(root / "data.json"), "lr": 0.1, "lr_warmup": 0.0}
    return Job("train", TrainingOptions(str(root / "encoder"), output, **(known | changes)), TrainConfig())


def interrupted(job: Job, after: int) -> None:
    """Run it up to a step."""
    show = Progress._show

    def stop(self: Progress, state: Any) -> None:
        show(self, state)
        if state.global_step == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "_show", stop)
        with pytest.raises(KeyboardInterrupt):
            module.run(job)


def log(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("length", [{"max_steps": 8}, pytest.param({"epochs": 1.1}, marks=pytest.mark.slow)])
def test_an_interrupted_run_is_given_more_steps(length: dict[str, Any], root: Path, tmp_path: Path) -> None:
    """From its state on the learning rate is that of a run which was as long from the beginning; a pass has 7 steps."""
    out = tmp_path / "out"
    interrupted(job(root, out, max_steps=4), 3)
    longer = job(root, out, resume=True, **length)
    module.run(longer)
    lines = log(out)
    assert [line["step"] for line in lines] == list(range(1, 9))
    rates = [0.1 * (1 - step / 4) for step in range(2)] + [0.1 * (1 - step / 8) for step in range(2, 8)]
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates)
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.steps[-1].metrics["steps"], manifest.steps[-1].config["max_steps"]) == (
        8,
        length.get("max_steps", 0),
    )
    assert not out.with_name("out.partial").exists()


def test_what_was_asked_last_is_kept(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(job(root, out, max_steps=4), 3)
    interrupted(job(root, out, max_steps=8, resume=True), 5)
    assert read_json(tmp_path / "out.partial" / "run.json")["max_steps"] == 8


def test_fewer_steps_than_are_done(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(job(root, out, max_steps=8), 5)
    with pytest.raises(
        UsageError, match=r"state-00000004 is after 4 steps, and the run is to end after 3; give it more"
    ):
        module.run(job(root, out, max_steps=3, resume=True))
    module.run(job(root, out, max_steps=5, resume=True))
    assert log(out)[-1]["step"] == 5


def test_another_setting_is_another_run(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(job(root, out, max_steps=4), 3)
    with pytest.raises(UsageError, match=r"is another run \(batch_size was 4 and is 2\); give the same"):
        module.run(job(root, out, max_steps=8, batch_size=2, resume=True))


def test_a_finished_run_says_what_is_possible(root: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "out", {"resume": True, "max_steps": 3}
    module.run(job(root, out, max_steps=2))
    words = (
        r"out is finished \(max_steps was 2 and is 3\), and keeps no state to go on from; to train on from its weights"
    )
    with pytest.raises(UsageError, match=f"{words} give .*/out as MODEL and another -o, or --overwrite trains anew"):
        module.run(job(root, out, **more))
    on = job(root, tmp_path / "on", max_steps=1)  # the mend works
    module.run(replace(on, options=replace(on.training, model=str(out))))
    masked = tmp_path / "masked"
    pruning = Job("prune", job(root, masked, max_steps=2, lr=None).training, PruneConfig())
    module.run(pruning)
    with pytest.raises(UsageError, match=r"keeps no state to go on from; --overwrite trains anew"):
        module.run(replace(pruning, options=job(root, masked, lr=None, **more).training))


def test_loss_and_penalty_are_told_apart(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their sum is what the run lowers; each line has the means of its own steps, also after an interruption."""
    totals: list[float] = []

    def noted(*given: Any) -> Any:
        penalized = with_penalties(*given)

        def step(*values: Any) -> Any:
            totals.append((loss := penalized(*values)).item())
            return loss

        return step

    def pruning(name: str, **more: Any) -> Job:
        options = job(root, tmp_path / name, max_steps=7, lr=None, **more).training
        return Job("prune", options, PruneConfig(penalty=9.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "LOG_STEPS", 3)
        patch.setattr(module, "with_penalties", noted)
        module.run(pruning("whole"))
    told = capsys.readouterr().err
    lines = log(tmp_path / "whole")
    assert [line["step"] for line in lines] == [3, 6, 7]
    for line, (begin, end) in zip(lines, [(0, 3), (3, 6), (6, 7)], strict=True):
        assert line["loss"] + line["penalty"] == pytest.approx(sum(totals[begin:end]) / (end - begin), rel=1e-5)
        assert 0 < line["loss"] < 9
    assert lines[-1]["penalty"] == pytest.approx(9 * 0.5, rel=0.1)  # the sigmoid of small scores
    assert f"7/7 (100%), loss {lines[-1]['loss']:.4g}, penalty {lines[-1]['penalty']:.4g}, remaining 50, " in told
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "LOG_STEPS", 3)
        interrupted(pruning("parts"), 5)
        module.run(pruning("parts", resume=True))
    assert log(tmp_path / "parts") == lines
    whole, parts = (read_manifest(tmp_path / name) for name in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert parts.steps[-1].metrics["train_penalty"] == whole.steps[-1].metrics["train_penalty"]
    both = whole.steps[-1].metrics["train_loss"] + whole.steps[-1].metrics["train_penalty"]
    assert both == pytest.approx(sum(totals) / 7, rel=1e-5)
