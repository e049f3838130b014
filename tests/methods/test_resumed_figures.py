"""The figures of a run that was interrupted and resumed are those of the whole run, at a constant rate of steps."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from compresskit.checkpoint.manifest import Step, read_manifest
from compresskit.checkpoint.store import write_json
from compresskit.errors import InputError
from compresskit.methods import run as module
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.penalties import with_penalties
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.qlora import run_qlora
from compresskit.training import clock, engine
from compresskit.training.arguments import Evaluator, TrainingOptions
from tests.contract import makers

SECONDS = 0.5  # of a step
STEPS = 7


class Times:
    """A clock that only steps move; the step of the number `fatal` is lost, with its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fatal: int | None = None

    def passes(self, penalized: Callable[..., Any]) -> Callable[..., Any]:
        def step(model: Any, batch: Any, done: float) -> Any:
            self.now += SECONDS
            if self.fatal is not None and done * (STEPS - 1) >= self.fatal - 0.5:
                raise KeyboardInterrupt
            return penalized(model, batch, done)

        return step


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    found = Times()
    monkeypatch.setattr(clock, "now", lambda: found.now)
    monkeypatch.setattr(module, "with_penalties", lambda *given: found.passes(with_penalties(*given)))
    monkeypatch.setattr(engine, "LOG_STEPS", 3)  # lines after 3, 6 and 7 steps, states after 2, 4, 6 and 7
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    for family in ("encoder", "seq2seq", "causal", "lstm"):
        makers.made(family, folder / family)
    makers.data(folder / "data.json")
    return folder


TAUGHT = Distillation(distill=True, teacher="encoder")
JOBS: Mapping[str, tuple[str, str, Any, Distillation]] = {
    "train": ("train", "encoder", TrainConfig(), Distillation()),
    "train-distill": ("train", "encoder", TrainConfig(), TAUGHT),
    "train-lstm": ("train", "lstm", TrainConfig(), Distillation()),
    **{
        f"prune-{way}": ("prune", "encoder", PruneConfig(method=way), Distillation())
        for way in ("smp", "smp-l", "movement", "soft-movement", "magnitude")
    },
    "prune-distill": ("prune", "encoder", PruneConfig(), TAUGHT),
    "prune-seq2seq": ("prune", "seq2seq", PruneConfig(), Distillation()),
    "lora": ("lora", "encoder", LoraConfig(rank=2), Distillation()),
    "lora-causal": ("lora", "causal", LoraConfig(rank=2), Distillation()),
    "qlora": ("lora", "encoder", LoraConfig(rank=2), Distillation()),
    "qlora-distill": ("lora", "encoder", LoraConfig(rank=2), TAUGHT),
}


def job(name: str, root: Path, output: Path, *, resume: bool) -> Job:
    method, model, config, taught = JOBS[name]
    more: dict[str, Any] = {"batch_size": 4, "device": "cpu", "max_length": 48, "stride": 8, "max_steps": STEPS}
    more |= {"save_steps": 2, "train_data": str(root / "data.json"), "resume": resume}
    options = TrainingOptions(str(root / model), output, **more)
    teacher = None if taught.teacher is None else str(root / taught.teacher)
    return Job(method, options, config, Distillation(distill=taught.distill, teacher=teacher))


def made(name: str, root: Path, output: Path, evaluator: Evaluator | None = None, *, resume: bool = False) -> Path:
    """The checkpoint of a job; that of a QLoRA stands on a base that is packed first."""
    asked = job(name, root, output, resume=resume)
    return run_qlora(asked, 4, evaluator) if name.startswith("qlora") else module.run(asked, evaluator)


def scored(folder: Path) -> Mapping[str, float]:
    return {"em": 50.0}


def killed(folder: Path) -> Mapping[str, float]:
    raise KeyboardInterrupt


def last_step(folder: Path) -> Step:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.steps[-1]


def same_weights(first: Path, second: Path) -> bool:
    files = sorted(path.name for path in first.glob("*.safetensors"))
    pairs = [(load_file(first / name), load_file(second / name)) for name in files]
    return bool(files) and all(
        one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one) for one, two in pairs
    )


# The others share the code of these, and take seconds more.
FAST = ("prune-smp-l", "qlora")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in JOBS]
)
def test_interrupted_in_training_and_in_scoring(
    name: str, root: Path, times: Times, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made(name, root, whole, scored)
    expected = last_step(whole)
    assert expected.wall_time_s == STEPS * SECONDS
    assert expected.metrics["steps"] == STEPS

    times.fatal = 5  # after the state of 4 steps, and in the middle of a line of the log
    with pytest.raises(KeyboardInterrupt):
        made(name, root, parts, scored)
    times.fatal = None
    with pytest.raises(KeyboardInterrupt):
        made(name, root, parts, killed, resume=True)
    capsys.readouterr()
    assert made(name, root, parts, scored, resume=True) == parts
    assert f"training: {STEPS}/{STEPS} (100%), " in capsys.readouterr().err

    found = last_step(parts)
    assert found.wall_time_s == expected.wall_time_s
    assert found.data == expected.data
    assert found.metrics == expected.metrics
    assert (parts / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    assert same_weights(whole, parts)
    assert not parts.with_name("parts.partial").exists()


def test_the_rate_counts_what_the_steps_saw(root: Path, times: Times, tmp_path: Path) -> None:
    """Windows and seconds of the steps alone; the last batch of an epoch is a short one."""
    made("train", root, tmp_path / "out")
    windows = 22  # six batches; the seventh is one of the next epoch
    assert last_step(tmp_path / "out").metrics["examples_per_s"] == (windows + 4) / (STEPS * SECONDS)
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    mean = sum(line["loss"] * count for line, count in zip(lines, (3, 3, 1), strict=True)) / STEPS
    assert last_step(tmp_path / "out").metrics["train_loss"] == pytest.approx(mean)


@pytest.mark.parametrize("kept", [[], {}, {"seconds": "1"}, {"seconds": -1}, {"seconds": True}])
def test_a_damaged_clock(kept: Any, tmp_path: Path) -> None:
    write_json(tmp_path / clock.FILE, kept)
    with pytest.raises(InputError, match=r"clock\.json does not tell how long the run worked; remove it to go on"):
        clock.RunClock(tmp_path)


def test_a_clock_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what was kept last, whatever passed since then."""
    moments = itertools.count(start=100.0)
    monkeypatch.setattr(clock, "now", lambda: next(moments))
    first = clock.RunClock(tmp_path)
    first.keep()
    assert first.seconds == 2
    assert clock.RunClock(tmp_path).seconds == 2
