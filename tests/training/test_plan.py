import json
import math
from pathlib import Path
from typing import Any

import pytest

from compresskit.checkpoint.manifest import read_manifest
from compresskit.data.load import load
from compresskit.errors import UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.run import plan, run
from compresskit.models.answering import WindowOptions
from compresskit.models.tasks.span_features import write_features
from compresskit.training.arguments import TrainingOptions
from tests import tiny

QUESTIONS = 13
MATRICES = 2 * (4 * 16 * 16 + 2 * 16 * 32)  # two layers, 16 wide


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paragraphs = [
        {
            "context": example.context,
            "qas": [
                {
                    "id": example.id,
                    "question": example.question,
                    "is_impossible": False,
                    "answers": [{"text": example.answers[0].text, "answer_start": example.answers[0].start}],
                }
            ],
        }
        for example in tiny.examples(QUESTIONS)
    ]
    path = tmp_path_factory.mktemp("data") / "train.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def options(model: Path, data: Path, output: Path, **more: Any) -> TrainingOptions:
    common = {"train_data": str(data), "device": "cpu", "max_length": 48, "stride": 8, "batch_size": 4}
    return TrainingOptions(str(model), output, **{**common, **more})


def training(model: Path, data: Path, output: Path, **more: Any) -> Job:
    return Job("train", options(model, data, output, **more), TrainConfig())


@pytest.mark.parametrize("more", [{}, {"epochs": 1.5, "accumulate": 2}, {"max_steps": 3}, {"max_train_samples": 5}])
def test_the_figures_of_a_training(model: Path, data: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    job = training(model, data, tmp_path / "out", **more)
    (planned,) = plan(job)
    parameters = sum(p.numel() for p in tiny.bert().parameters())
    assert (planned.parameters, planned.trainable, planned.checkpoint_bytes) == (parameters, parameters, 4 * parameters)
    examples = load(str(data), "train")
    if "max_train_samples" in more:
        examples = examples.sample(5, job.training.seed)
    windows = write_features(tiny.tokenizer(), examples, WindowOptions(48, 8), tmp_path / "features")
    assert (planned.questions, planned.windows) == (len(examples), len(windows))
    assert (planned.device, planned.dtype) == ("cpu", "float32")
    assert list(tmp_path.iterdir()) == [tmp_path / "features"]

    run(job)
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.steps[-1].metrics["steps"] == planned.steps
    assert manifest.steps[-1].metrics["params_trainable"] == planned.trainable
    weights = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert planned.checkpoint_bytes <= weights < planned.checkpoint_bytes + 20_000  # and the header


@pytest.mark.parametrize(
    ("method", "block", "learns"),
    [
        ("smp", (1, 1), MATRICES),
        ("smp-l", (4, 8), MATRICES // 32),
        # Biases: 4 of 16, 1 of 32, 1 of 16, two norms of 2·16, in each layer; the head: 2·16 + 2.
        ("movement", (1, 1), 2 * MATRICES + 2 * (5 * 16 + 32 + 4 * 16) + 34),
        ("magnitude", (1, 1), MATRICES + 2 * (5 * 16 + 32 + 4 * 16) + 34),
    ],
)
def test_the_figures_of_a_pruning(
    model: Path, data: Path, tmp_path: Path, method: Any, block: tuple[int, int], learns: int
) -> None:
    settings = options(model, data, tmp_path / "out", max_steps=3)
    job = Job("prune", settings, PruneConfig(method=method, sparsity=0.75, block=block))
    (planned,) = plan(job)
    assert planned.trainable == learns
    assert planned.steps == 3
    assert f"masks over {MATRICES:,} weights, of which {MATRICES // 4:,} remain" in planned.notes[0]
    p = 0.25
    entropy = -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) * MATRICES / (block[0] * block[1]) / 8
    weights = MATRICES if method in ("movement", "magnitude") else 0  # 4 bytes each of a quarter
    assert planned.checkpoint_bytes == pytest.approx(entropy + weights, abs=1)

    run(job)
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.steps[-1].metrics["params_trainable"] == planned.trainable
    assert manifest.steps[-1].metrics["sparsity"] == pytest.approx(75, abs=0.1)


@pytest.mark.parametrize("method", ["train", "prune"])
def test_distillation_without_a_teacher_plans_two_runs(method: str, model: Path, data: Path, tmp_path: Path) -> None:
    """The teacher learns for its own number of epochs: two of them are 8 steps, and three 12."""
    settings = options(model, data, tmp_path / "out", epochs=2.0)
    config = TrainConfig() if method == "train" else PruneConfig()
    plans = plan(Job(method, settings, config, Distillation(distill=True, teacher_epochs=3.0)))
    assert [each.steps for each in plans] == [12, 8]
    for planned, name in zip(plans, ("out-teacher", "out"), strict=True):
        assert f"writes {tmp_path / name}" in planned.notes[0]
    assert list(tmp_path.iterdir()) == []


def test_a_given_teacher_is_told(model: Path, data: Path, tmp_path: Path) -> None:
    settings = options(model, data, tmp_path / "out", max_steps=3)
    (planned,) = plan(Job("train", settings, TrainConfig(), Distillation(distill=True, teacher=str(model))))
    assert f"teacher: {model}" in planned.notes


def test_a_window_longer_than_the_positions(model: Path, data: Path, tmp_path: Path) -> None:
    for act in (plan, run):
        with pytest.raises(UsageError, match=r"^--max-length 65 .*64 tokens"):
            act(training(model, data, tmp_path / "out", max_length=65))


def test_processes_share_the_steps(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = training(model, data, tmp_path / "out", batch_size=1, epochs=1.0)
    (alone,) = plan(job)
    monkeypatch.setenv("WORLD_SIZE", "2")
    (shared,) = plan(job)
    assert shared.steps == -(-alone.steps // 2)
