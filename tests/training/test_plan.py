import json
import math
from pathlib import Path
from typing import Any

import pytest

from compresskit.checkpoint.manifest import read_manifest
from compresskit.data.load import load
from compresskit.errors import UsageError
from compresskit.methods import train
from compresskit.methods.prune import apply as pruning
from compresskit.methods.prune.config import PruneConfig
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


@pytest.mark.parametrize("more", [{}, {"epochs": 1.5, "accumulate": 2}, {"max_steps": 3}, {"max_train_samples": 5}])
def test_the_figures_of_a_training(model: Path, data: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    settings = options(model, data, tmp_path / "out", **more)
    plan = train.plan(settings)
    parameters = sum(p.numel() for p in tiny.bert().parameters())
    assert (plan.parameters, plan.trainable, plan.checkpoint_bytes) == (parameters, parameters, 4 * parameters)
    examples = load(str(data), "train")
    if "max_train_samples" in more:
        examples = examples.sample(5, settings.seed)
    windows = write_features(tiny.tokenizer(), examples, WindowOptions(48, 8), tmp_path / "features")
    assert (plan.questions, plan.windows) == (len(examples), len(windows))
    assert (plan.device, plan.dtype) == ("cpu", "float32")
    assert not settings.output.exists()

    train.apply(settings)
    manifest = read_manifest(settings.output)
    assert manifest is not None
    assert manifest.steps[-1].metrics["steps"] == plan.steps
    assert manifest.steps[-1].metrics["params_trainable"] == plan.trainable
    weights = (settings.output / "model.safetensors").stat().st_size
    assert plan.checkpoint_bytes <= weights < plan.checkpoint_bytes + 20_000  # and the header


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
    config = PruneConfig(method=method, sparsity=0.75, block=block)
    (plan,) = pruning.plan(settings, config, pruning.Teaching())
    assert plan.trainable == learns
    assert plan.steps == 3
    assert f"masks over {MATRICES:,} weights, of which {MATRICES // 4:,} remain" in plan.notes[0]
    p = 0.25
    entropy = -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) * MATRICES / (block[0] * block[1]) / 8
    weights = MATRICES if method in ("movement", "magnitude") else 0  # 4 bytes each of a quarter
    assert plan.checkpoint_bytes == pytest.approx(entropy + weights, abs=1)

    pruning.apply(settings, config, pruning.Teaching())
    manifest = read_manifest(settings.output)
    assert manifest is not None
    assert manifest.steps[-1].metrics["params_trainable"] == plan.trainable
    assert manifest.steps[-1].metrics["sparsity"] == pytest.approx(75, abs=0.1)


def test_distillation_without_a_teacher_plans_two_runs(model: Path, data: Path, tmp_path: Path) -> None:
    settings = options(model, data, tmp_path / "out", max_steps=3)
    teacher = options(model, data, tmp_path / "teacher", max_steps=7)
    plans = pruning.plan(settings, PruneConfig(), pruning.Teaching(teacher_options=teacher))
    assert [plan.steps for plan in plans] == [7, 3]
    assert list(tmp_path.iterdir()) == []


def test_a_window_longer_than_the_positions(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-length 65 is more than the 64 tokens"):
        train.plan(options(model, data, tmp_path / "out", max_length=65))


def test_processes_share_the_steps(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = train.plan(options(model, data, tmp_path / "out", batch_size=1, epochs=1.0))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train.plan(options(model, data, tmp_path / "out", batch_size=1, epochs=1.0)).steps == -(-alone.steps // 2)
