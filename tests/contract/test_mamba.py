"""Mamba and its like through every verb: what is trained, masked, adapted and packed answers, and is opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    FalconMambaConfig,
    FalconMambaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import UsageError
from compresskit.methods.job import Job, MergeConfig, MergeOptions, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.qlora import run_qlora
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.answering import AnswerOptions
from compresskit.models.mamba.mixer import use_own_mixers
from compresskit.models.registry import load
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers

SHAPE: dict[str, Any] = {"vocab_size": len(tiny.TOKENS), "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}
MAMBA2: dict[str, Any] = {**SHAPE, "num_heads": 8, "head_dim": 16, "n_groups": 1, "chunk_size": 16}
MODELS: dict[str, Any] = {
    "mamba": lambda ids: MambaForCausalLM(MambaConfig(**SHAPE, **ids)),
    "falcon": lambda ids: FalconMambaForCausalLM(FalconMambaConfig(**SHAPE, **ids)),
    "mamba2": lambda ids: Mamba2ForCausalLM(Mamba2Config(**MAMBA2, **ids)),
}


def checkpoint(kind: str, folder: Path) -> Path:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    MODELS[kind](ids).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def job(method: str, root: Path, base: Path, out: str, config: Any, **options: Any) -> Job:
    makers.data(root / "data.json")
    settings: dict[str, Any] = {"max_steps": 4, "batch_size": 4, "max_length": 48, "stride": 8, "lr": 0.02}
    settings |= {"train_data": str(root / "data.json"), "device": "cpu"} | options
    return Job(method, TrainingOptions(str(base), root / out, **settings), config)


def answers(folder: Path) -> list[Any]:
    loaded = load(str(folder), device="cpu")
    return list(loaded.task.answer(loaded, tiny.examples(6), AnswerOptions(48, 8)))


def alike(one: Path, two: Path, tolerance: float) -> None:
    for first, second in zip(answers(one), answers(two), strict=True):
        assert first.null_score == pytest.approx(second.null_score, abs=tolerance)


@pytest.mark.parametrize("kind", MODELS)
def test_every_verb(kind: str, tmp_path: Path) -> None:
    base = checkpoint(kind, tmp_path / "base")
    trained = run(job("train", tmp_path, base, "trained", TrainConfig()))
    assert type(AutoModelForCausalLM.from_pretrained(trained)).__name__ == type(MODELS[kind]({})).__name__
    masked = run(job("prune", tmp_path, trained, "mask", PruneConfig(method="magnitude", sparsity=0.5)))
    adapted = run(job("lora", tmp_path, trained, "adapter", LoraConfig(rank=2)))
    tensors = load_file(adapted / "adapter_model.safetensors")
    layers = {name.split(".")[-3] for name in tensors}
    assert layers == {"in_proj", "out_proj"} | ({"x_proj"} if kind != "mamba2" else set())
    assert all(bool(tensor.any()) for tensor in tensors.values())
    for overlay, tolerance in ((masked, 1e-4), (adapted, 1e-4)):
        merged = run(Job("merge", MergeOptions(str(overlay), tmp_path / f"{overlay.name}-merged"), MergeConfig()))
        alike(overlay, merged, tolerance)
        manifest = read_manifest(merged)
        assert manifest is not None
        assert manifest.family == "causal"
    packed = run(Job("quantize", QuantizeOptions(str(trained), tmp_path / "int8"), QuantizeConfig()))
    alike(trained, packed, 0.5)


def test_adapters_on_packed_weights(tmp_path: Path) -> None:
    """What transformers reads raw is not packed, nor is the output."""
    base = checkpoint("mamba", tmp_path / "base")
    out = run_qlora(job("lora", tmp_path, base, "out", LoraConfig(rank=2)), 4)
    packed = load_file(tmp_path / "out-base" / "model.safetensors")
    kinds = {name: tensor.dtype for name, tensor in packed.items() if name.endswith("proj.weight")}
    assert {name.split(".")[-2] for name, dtype in kinds.items() if dtype != torch.uint8} == {"dt_proj"}
    assert {name.split(".")[-2] for name, dtype in kinds.items() if dtype == torch.uint8} == {
        "in_proj",
        "x_proj",
        "out_proj",
    }
    tensors = load_file(out / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * 3
    assert all(bool(tensor.any()) for tensor in tensors.values())
    assert len(answers(out)) == 6
    merged = run(Job("merge", MergeOptions(str(out), tmp_path / "merged"), MergeConfig()))
    stored = load_file(merged / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    alike(out, merged, 0.5)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (LoraConfig(targets=("query-value",)), "--targets query-value matches nothing in a mamba"),
        (LoraConfig(targets=("q_proj",)), "--targets q_proj matches nothing in a mamba; take of in_proj, x_proj"),
        (LoraConfig(dropout=0.1), "--dropout has no effect on x_proj, out_proj"),
        (LoraConfig(dora=True), "--dora has no effect with"),
        (LoraConfig(init="pissa"), "--init pissa has no effect with"),
    ],
)
def test_what_a_mambas_adapters_cannot_have(config: LoraConfig, told: str, tmp_path: Path) -> None:
    base = checkpoint("mamba", tmp_path / "base")
    with pytest.raises(UsageError, match=told):
        run(job("lora", tmp_path, base, "out", config))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("targets", [("in_x",), ("embeddings", "out_proj"), ("all-linear",)])
def test_other_targets_are_merged_to_the_same_answers(targets: tuple[str, ...], tmp_path: Path) -> None:
    base = checkpoint("mamba", tmp_path / "base")
    adapted = run(job("lora", tmp_path, base, "adapter", LoraConfig(rank=2, targets=targets)))
    merged = run(Job("merge", MergeOptions(str(adapted), tmp_path / "merged"), MergeConfig()))
    alike(adapted, merged, 1e-4)


def test_a_mamba_is_opened_with_our_scan(tmp_path: Path) -> None:
    loaded: Any = load(str(checkpoint("mamba", tmp_path / "base")), device="cpu")
    mixers = [type(module).__name__ for module in loaded.model.modules() if "Mixer" in type(module).__name__]
    assert mixers == ["OwnMambaMixer"] * 2
    assert use_own_mixers(loaded.model) == 2


PRESETS: dict[tuple[str, tuple[str, ...]], set[str]] = {
    ("mamba", ("linear", "dt_proj")): {"in_proj", "x_proj", "out_proj", "dt_proj"},
    ("mamba", ("in_proj,x_proj",)): {"in_proj", "x_proj"},
    ("mamba", ("all-linear", "linear")): {"in_proj", "x_proj", "out_proj", "dt_proj"},
    ("mamba2", ("all-linear",)): {"in_proj", "out_proj"},
}


@pytest.mark.parametrize(("kind", "targets"), PRESETS)
def test_presets_mean_what_there_is_of_them(
    kind: str, targets: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = checkpoint(kind, tmp_path / "base")
    out = run(job("lora", tmp_path, base, "adapter", LoraConfig(rank=2, targets=targets)))
    wanted = PRESETS[kind, targets]
    assert {name.split(".lora_")[0].split(".")[-1] for name in load_file(out / "adapter_model.safetensors")} == wanted
    told = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("adapters on "))
    assert {part.split()[0] for part in told.removeprefix("adapters on ").split(", ")} == wanted


def test_adapted_embeddings_are_told_by_their_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = checkpoint("mamba", tmp_path / "base")
    run(job("lora", tmp_path, base, "adapter", LoraConfig(rank=2, targets=("embeddings", "in_x"))))
    assert "adapters on embeddings 1, in_proj 2" in capsys.readouterr().err
