"""What a run decides by itself is told in the log, the plan and the manifest."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.run import plan, run
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from compresskit.training.arguments import AttentionDropout, TrainingOptions
from compresskit.training.choices import choices_of, told
from compresskit.training.session import load_for_training
from tests.contract import makers

LEFT_OUT = "left out (the model has 0.5; --attention-dropout model keeps it)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readers of every family, one `dropping` attention weights, and `data.json`."""
    folder = tmp_path_factory.mktemp("choices")
    model = makers.made("encoder", folder / "dropping")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "attention_probs_dropout_prob": 0.5}))
    for family in ("seq2seq", "causal", "lstm"):
        makers.made(family, folder / family)
    makers.data(folder / "data.json")
    return folder


def options(root: Path, model: str = "dropping", **more: Any) -> TrainingOptions:
    common: dict[str, Any] = {"train_data": str(root / "data.json"), "max_steps": 1, "batch_size": 4, "device": "cpu"}
    return TrainingOptions(str(root / model), **{**common, "max_length": 48, "stride": 8, "lr": 1e-3, **more})


def drops(model: Any) -> bool:
    """Whether two passes in training differ."""
    ids = torch.arange(7, 17)[None]
    with torch.no_grad():
        return not torch.equal(model(input_ids=ids).start_logits, model(input_ids=ids).start_logits)


@pytest.mark.parametrize(
    ("wanted", "kept", "words"), [("auto", False, LEFT_OUT), ("none", False, LEFT_OUT), ("model", True, "0.5")]
)
def test_attention_dropout_on_a_cpu(
    wanted: AttentionDropout, kept: bool, words: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(root, output=tmp_path / "out", attention_dropout=wanted)
    assert drops(load_for_training(resolve(given.model), given).model) == kept
    job = Job("train", given, TrainConfig())
    (planned,) = plan(job)
    capsys.readouterr()
    run(job)
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    choices = manifest.steps[-1].choices
    assert choices["attention_dropout"] == words
    assert planned.notes[-1] == told(choices)
    assert capsys.readouterr().err.splitlines().count(told(choices)) == 1
    assert f"; attention dropout {words}; " in told(choices)
    assert json.loads((tmp_path / "out/config.json").read_text())["attention_probs_dropout_prob"] == 0.5


def test_on_a_gpu_auto_keeps_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compresskit.training.choices.resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    loaded = load_trainable(resolve(str(root / "dropping")))
    found = choices_of(options(root, dtype="bfloat16"), loaded)
    assert found == {
        "device": "a GPU",
        "processes": 1,
        "numbers": "bfloat16, weights learn in float32",
        "float32_products": "float32",
        "attention": "sdpa, without cuDNN's kernel",
        "attention_dropout": "0.5",
        "batches": "windows of like length together, padded to a multiple of 8",
    }
    assert choices_of(options(root, attention_dropout="none"), loaded)["attention_dropout"] == LEFT_OUT


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("seq2seq", {"attention": "sdpa"}),
        ("causal", {"attention": "sdpa"}),  # whose configuration has a dropout of 0
        ("lstm", {}),
        ("demo/mamba", {"scan": "PyTorch's own operations"}),
    ],
)
def test_what_a_model_has_not_is_not_told(model: str, expected: dict[str, str], root: Path) -> None:
    found = choices_of(options(root), load_trainable(resolve(model if "/" in model else str(root / model))))
    common = {"device": "cpu", "processes": 1, "threads": torch.get_num_threads(), "numbers": "float32"}
    assert {key: value for key, value in found.items() if key != "batches"} == {**common, **expected}


@pytest.mark.parametrize("model", ["seq2seq", "lstm"])
@pytest.mark.parametrize("wanted", ["model", "none"])
def test_an_option_without_effect_is_refused(model: str, wanted: Any, root: Path, tmp_path: Path) -> None:
    given = options(root, model, output=tmp_path / "out", attention_dropout=wanted)
    with pytest.raises(UsageError, match=r"^--attention-dropout has no effect with .* names none; leave it out"):
        run(Job("train", given, TrainConfig()))
    assert not list(tmp_path.iterdir())


def test_the_numbers_of_a_teachers_logits_are_told(root: Path, tmp_path: Path) -> None:
    teacher = Distillation(distill=True, teacher=str(root / "dropping"))
    run(Job("train", options(root, output=tmp_path / "out"), TrainConfig(), teacher))
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.steps[-1].choices["teacher_logits"] == "asked for once, in float32, and kept in float16"


def test_dropping_is_of_attention_alone(root: Path) -> None:
    """The other dropouts stay as they are."""
    model = load_for_training(resolve(str(root / "dropping")), options(root)).model
    assert {part.p for part in model.modules() if isinstance(part, nn.Dropout)} == {0.0}
