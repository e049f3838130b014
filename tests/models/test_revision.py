"""A model of the Hub at a revision, in a cache of one's own. Nothing is fetched: the Hub's tools write such a cache."""

import json
import shutil
from pathlib import Path

import pytest

from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.store import read_json
from compresskit.errors import MissingError, UsageError
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.run import run
from compresskit.models.registry import load
from compresskit.models.source import resolve
from compresskit.training.arguments import RunOptions, TrainingOptions
from tests import tiny
from tests.contract import makers

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two revisions of `someone/reader`, whose weights differ."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    kept = tmp_path / "cache" / "models--someone--reader"
    (kept / "refs").mkdir(parents=True)
    for seed, (name, commit) in enumerate(COMMITS.items()):
        (kept / "refs" / name).write_text(commit)
        tiny.checkpoint(kept / "snapshots" / commit, seed=seed)
    return tmp_path / "cache"


@pytest.mark.parametrize(("revision", "commit"), [(None, "a"), ("v1", "b"), ("b" * 40, "b")])
def test_a_revision_is_found_in_the_cache(revision: str | None, commit: str, cache: Path) -> None:
    source = RunOptions("someone/reader", revision=revision, cache_dir=cache).source
    assert source.path == cache / "models--someone--reader" / "snapshots" / (commit * 40)
    assert source.revision == commit * 40


def test_without_that_cache_the_model_is_not_here(cache: Path) -> None:
    with pytest.raises(MissingError, match="the Hub cannot be reached"):
        resolve("someone/reader", "v1")


@pytest.mark.parametrize("model", ["demo/bert", "FOLDER", "lstm"])
def test_a_revision_of_what_is_not_of_the_hub(model: str, tmp_path: Path) -> None:
    model = str(tmp_path) if model == "FOLDER" else model
    with pytest.raises(UsageError, match=r"--revision v1 has no effect with .*not of the Hub; leave it out"):
        _ = RunOptions(model, revision="v1").source


def test_the_manifest_and_peft_know_the_resolved_revision(cache: Path, tmp_path: Path) -> None:
    """And the base is found by it again."""
    data = makers.data(tmp_path / "data.json")
    options = TrainingOptions(
        "someone/reader", tmp_path / "out", revision="v1", cache_dir=cache, train_data=str(data), max_steps=1,
        max_length=48, stride=8, device="cpu",
    )  # fmt: skip
    run(Job("lora", options, LoraConfig(rank=2)))
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.base is not None
    assert (manifest.base.ref, manifest.base.revision) == ("someone/reader", COMMITS["v1"])
    assert manifest.steps[-1].config["revision"] == "v1"
    assert "cache_dir" not in manifest.steps[-1].config
    assert read_json(tmp_path / "out" / "adapter_config.json")["revision"] == COMMITS["v1"]
    shutil.rmtree(cache / "models--someone--reader" / "refs")  # a branch that has moved on
    assert load(str(tmp_path / "out")).base == cache / "models--someone--reader" / "snapshots" / COMMITS["v1"]


def test_a_run_of_a_folder_tells_no_revision(tmp_path: Path) -> None:
    described = json.dumps(TrainingOptions(str(tmp_path), tmp_path / "out").describe())
    assert "revision" not in described
    assert "eval_steps" not in described
    assert TrainConfig().describe() == {}
