"""A job with its defaults, and a training with a teacher from the job to the manifest."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compresskit.checkpoint.manifest import Step, read_manifest
from compresskit.checkpoint.store import sha256_weights
from compresskit.data import DEFAULT_DATA
from compresskit.errors import InputError, UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, MergeConfig, MergeOptions, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.run import completed, plan, run
from compresskit.models.architecture import chosen
from compresskit.models.prompt import T5
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers

TEACH = Distillation(distill=True, teacher="teacher")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder` and `lstm`, and `data.json` to train on."""
    folder = tmp_path_factory.mktemp("models")
    for family in ("encoder", "lstm"):
        makers.made(family, folder / family)
    makers.data(folder / "data.json")
    return folder


# Defaults.


@pytest.mark.parametrize(
    ("model", "lr", "epochs", "data"),
    [
        ("encoder", 5e-5, 3.0, DEFAULT_DATA),
        ("lstm", 2e-3, 8.0, DEFAULT_DATA),
        ("lstm, built", 2e-3, 8.0, DEFAULT_DATA),
        ("demo/bert", 2e-3, 1.0, "demo"),
        ("demo/lstm", 2e-3, 1.0, "demo"),
        ("demo/t5", 2e-3, 1.0, "demo"),
        ("demo/mamba", 2e-3, 1.0, "demo"),
    ],
)
def test_the_defaults_of_a_training(models: Path, model: str, lr: float, epochs: float, data: str) -> None:
    built = chosen("lstm", {}) if model == "lstm, built" else None
    name = "lstm" if built else model if model.startswith("demo/") else str(models / model)
    found = completed(Job("train", TrainingOptions(name, architecture=built), TrainConfig())).training
    assert (found.lr, found.epochs, found.train_data) == (lr, epochs, data)


@pytest.mark.parametrize("model", ["encoder", "lstm"])
def test_the_defaults_of_a_pruning_are_its_own(models: Path, model: str) -> None:
    found = completed(Job("prune", TrainingOptions(str(models / model)), PruneConfig())).training
    assert (found.lr, found.epochs, found.train_data) == (3e-5, 10.0, DEFAULT_DATA)


@pytest.mark.parametrize("method", ["train", "prune"])
def test_what_is_given_stays(models: Path, method: str) -> None:
    config = TrainConfig() if method == "train" else PruneConfig(method="movement")
    options = TrainingOptions(str(models / "lstm"), Path("mine"), train_data="demo", lr=1.0, epochs=0.5)
    assert completed(Job(method, options, config)).options == options
    half = completed(Job(method, TrainingOptions(str(models / "lstm"), lr=1.0), config)).training
    assert (half.lr, half.epochs) == (1.0, 8.0 if method == "train" else 10.0)


def test_a_default_needs_no_model_that_is_not_there() -> None:
    """Where all is given, nothing is looked up."""
    options = TrainingOptions("owner/name", lr=1.0, epochs=1.0, prompt_template=T5)
    assert completed(Job("train", options, TrainConfig())).options.target == Path("runs/owner-name-train")


@pytest.mark.parametrize(
    ("method", "config", "distillation", "name"),
    [
        ("train", TrainConfig(), Distillation(), "train"),
        ("train", TrainConfig(), TEACH, "train-distill"),
        ("prune", PruneConfig(), Distillation(), "smp-0.5"),
        ("prune", PruneConfig(sparsity=0.97), TEACH, "smp-0.97-distill"),
        ("prune", PruneConfig(method="magnitude", sparsity=0.0), Distillation(teacher="teacher"), "magnitude-0"),
    ],
)
def test_the_default_output(models: Path, method: str, config: Any, distillation: Distillation, name: str) -> None:
    job = Job(method, TrainingOptions(str(models / "lstm")), config, distillation)
    assert completed(job).options.target == Path("runs") / f"lstm-{name}"
    demo = Job(method, TrainingOptions("demo/bert"), config, distillation)
    assert completed(demo).options.target == Path("runs") / f"demo-bert-{name}"


def test_the_default_output_of_a_merge() -> None:
    for model in ("runs/pruned", "runs/pruned/"):
        assert completed(Job("merge", MergeOptions(model), MergeConfig())).options.target == Path("runs/pruned-merged")


def test_the_teacher_that_is_trained_first(models: Path) -> None:
    """The same model and options, but its own rate and epochs; where it has none, those of its model's training."""
    options = TrainingOptions(str(models / "encoder"), Path("out"), lr=1.0, epochs=7.0, max_length=64)
    teach = Distillation(distill=True, teacher_lr=0.5)
    job = completed(Job("prune", options, PruneConfig(method="movement"), teach)).teacher
    assert job is not None
    found = completed(job).training
    assert (job.method, found.model, found.target) == ("train", options.model, Path("out-teacher"))
    assert (found.lr, found.epochs, found.max_length) == (0.5, 3.0, 64)
    assert Job("train", options, TrainConfig(), TEACH).teacher is None
    assert Job("train", options, TrainConfig()).teacher is None


# Training with a teacher.


def short(models: Path, model: Path, output: Path, **more: Any) -> TrainingOptions:
    """Three steps."""
    data = str(models / "data.json")
    common = {"train_data": data, "max_steps": 3, "batch_size": 4, "device": "cpu", "max_length": 48, "stride": 8}
    return TrainingOptions(str(model), output, **{**common, **more})


def training(models: Path, output: Path, distillation: Distillation, **more: Any) -> Job:
    return Job("train", short(models, models / "encoder", output, **more), TrainConfig(), distillation)


def last_step(folder: Path) -> Step:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.steps[-1]


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in load_file(folder / "model.safetensors").values()])


@pytest.mark.parametrize("teacher", ["encoder", "lstm"])
def test_a_training_with_a_teacher(teacher: str, models: Path, tmp_path: Path) -> None:
    """Of the same tokens, and of another family with others."""
    folder = models / teacher
    distillation = Distillation(distill=True, teacher=str(folder), temperature=3.0, distill_weight=0.75)
    run(training(models, tmp_path / "taught", distillation, lr=1e-3))
    run(training(models, tmp_path / "alone", Distillation(), lr=1e-3))
    step = last_step(tmp_path / "taught")
    assert step.method == "train"
    assert step.config["distill"] == {"temperature": 3.0, "weight": 0.75}
    assert step.config["teacher"] == str(folder)
    assert step.config["teacher_training"] is None
    assert step.metrics["teacher_sha256"] == sha256_weights(folder)
    assert not torch.equal(weights(tmp_path / "taught"), weights(tmp_path / "alone"))
    alone = last_step(tmp_path / "alone")
    assert (alone.config["distill"], alone.config["teacher"]) == (None, None)
    assert "teacher_sha256" not in alone.metrics


def test_a_teacher_without_distillation_has_no_part_in_a_training(models: Path, tmp_path: Path) -> None:
    job = training(models, tmp_path / "out", Distillation(teacher=str(models / "encoder")))
    for act in (run, plan):
        with pytest.raises(UsageError, match=r"^--teacher \S+ has no effect") as caught:
            act(job)
        assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_without_head(models: Path, tmp_path: Path) -> None:
    bare = makers.without_head(tiny.checkpoint(tmp_path / "bare"))
    job = training(models, tmp_path / "out", Distillation(distill=True, teacher=str(bare)))
    for act in (run, plan):
        with pytest.raises(InputError, match="bare has no trained question-answering head") as caught:
            act(job)
        assert caught.value.exit_code == 3


# A learning rate at which nothing learns.


@pytest.mark.parametrize("method", ["smp", "smp-l"])
def test_a_learning_rate_where_scores_alone_learn(method: Any, models: Path, tmp_path: Path) -> None:
    """Where the base has its head, and where the teacher gives it."""
    bare = makers.without_head(tiny.checkpoint(tmp_path / "bare"))
    teach = Distillation(teacher=str(models / "encoder"))
    config = PruneConfig(method=method)
    for model, distillation in ((models / "encoder", Distillation()), (bare, teach)):
        job = Job("prune", short(models, model, tmp_path / "out", lr=1e-3), config, distillation)
        for act in (run, plan):
            with pytest.raises(UsageError, match=r"^--lr \S+ has no effect") as caught:
                act(job)
            assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_learning_rate_where_the_head_or_weights_learn(models: Path, tmp_path: Path) -> None:
    bare = makers.without_head(tiny.checkpoint(tmp_path / "bare"))
    for model, method in ((bare, "smp"), (models / "encoder", "movement"), (models / "encoder", "magnitude")):
        options = short(models, model, tmp_path / f"out-{method}", lr=1e-3)
        assert plan(Job("prune", options, PruneConfig(method=method)))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["encoder", "seq2seq"])
@pytest.mark.parametrize(
    ("method", "config"),
    [("train", TrainConfig()), ("prune", PruneConfig(sparsity=0.5)), ("lora", LoraConfig(rank=2))],
    ids=["train", "prune", "lora"],
)
def test_activations_that_are_computed_twice_give_the_same(
    family: str, method: str, config: Any, tmp_path: Path
) -> None:
    """Weights, scores and adapters after a few steps with gradient checkpointing are those without."""
    makers.made(family, tmp_path / "base")
    makers.data(tmp_path / "data.json")
    found = []
    for checkpointing in (False, True):
        settings: dict[str, Any] = {"max_steps": 3, "batch_size": 4, "max_length": 48, "stride": 8, "device": "cpu"}
        settings |= {"train_data": str(tmp_path / "data.json"), "gradient_checkpointing": checkpointing}
        options = TrainingOptions(str(tmp_path / "base"), tmp_path / str(checkpointing), **settings)
        out = run(Job(method, options, config))
        found.append({file.name: load_file(file) for file in sorted(out.glob("*.safetensors"))})
    without, with_it = found
    assert without.keys() == with_it.keys()
    assert without
    for name, tensors in without.items():
        for key, tensor in tensors.items():
            torch.testing.assert_close(with_it[name][key], tensor)
