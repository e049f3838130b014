"""QLoRA: two runs of two methods, against plain PEFT on a plain packed base."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering

from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.measure import deploy_bytes
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.lora.method import LoraMethod
from compresskit.methods.lora.targets import chosen
from compresskit.methods.qlora import plan_qlora, run_qlora
from compresskit.methods.run import run
from compresskit.models.kinds.bnb import REPACKS, keep_in_place
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import resolve
from compresskit.training.arguments import TrainingOptions
from tests.contract import makers
from tests.methods.quantize.test_quantize import logits, quantize, wide


def job(root: Path, family: str = "encoder", out: str = "out", **options: Any) -> Job:
    if not (root / "base").exists():
        wide(family, root / "base")
        makers.data(root / "data.json")
    settings: dict[str, Any] = {"max_steps": 5, "batch_size": 4, "max_length": 48, "stride": 8, "seed": 1}
    settings |= {"device": "cpu", "train_data": str(root / "data.json")} | options
    return Job("lora", TrainingOptions(str(root / "base"), root / out, **settings), LoraConfig(rank=2))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", ["encoder", "seq2seq"])
def test_an_adapter_on_a_packed_base(family: str, bits: int, tmp_path: Path) -> None:
    out = run_qlora(job(tmp_path, family), bits)
    assert names(tmp_path) == ["base", "data.json", "out", "out-base"]
    base, adapter = read_manifest(tmp_path / "out-base"), read_manifest(out)
    assert base is not None
    assert adapter is not None
    assert (base.method, adapter.method) == (f"quantize/bnb-{bits}bit", "lora")
    assert adapter.base is not None
    assert (out / adapter.base.ref).resolve() == tmp_path / "out-base"
    before, after = (logits(load(str(tmp_path / name), device="cpu").model) for name in ("out-base", "out"))
    assert not torch.allclose(before, after)


def test_plain_peft_opens_it(tmp_path: Path) -> None:
    out = run_qlora(job(tmp_path, lr=0.05), 4)
    plain = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out-base")
    assert torch.equal(logits(PeftModel.from_pretrained(plain, out)), logits(load(str(out), device="cpu").model))


def test_the_base_is_made_once_and_shared(tmp_path: Path) -> None:
    run_qlora(job(tmp_path), 4)
    made = (tmp_path / "out-base" / "model.safetensors").stat().st_mtime_ns
    run_qlora(job(tmp_path, overwrite=True, seed=2), 4)
    other = replace(job(tmp_path), options=replace(job(tmp_path).training, model=str(tmp_path / "out-base")))
    second = run(replace(other, options=replace(other.training, output=tmp_path / "second")))
    assert (tmp_path / "out-base" / "model.safetensors").stat().st_mtime_ns == made
    assert load(str(second), device="cpu").base == second / "../out-base"


def test_another_base_in_the_way(tmp_path: Path) -> None:
    run_qlora(job(tmp_path), 4)
    with pytest.raises(UsageError, match=r"out-base is in the way \(bits"):
        run_qlora(job(tmp_path, resume=True), 8)
    run_qlora(job(tmp_path, overwrite=True), 8)
    assert read_manifest(tmp_path / "out-base").method == "quantize/bnb-8bit"  # type: ignore[union-attr]


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    out = run_qlora(job(tmp_path), 4)
    before = (out / "adapter_model.safetensors").stat().st_mtime_ns
    assert run_qlora(job(tmp_path, resume=True), 4) == out
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_the_packed_base_counts(tmp_path: Path) -> None:
    out = run_qlora(job(tmp_path), 4)
    needed = deploy_bytes(load(str(out), device="cpu").files)
    packed = (tmp_path / "out-base" / "model.safetensors").stat().st_size
    assert packed < needed < packed + 100_000 < (tmp_path / "base" / "model.safetensors").stat().st_size + 100_000


def test_merged_into_what_was_packed(tmp_path: Path) -> None:
    """The product of A and B is added to the full weights, by hand."""
    out = run_qlora(job(tmp_path, lr=0.05), 4)
    merged = run(Job("merge", MergeOptions(str(out), tmp_path / "merged"), MergeConfig()))
    tensors, base = load_file(out / "adapter_model.safetensors"), load_file(tmp_path / "base" / "model.safetensors")
    config = json.loads((out / "adapter_config.json").read_text())
    found = load_file(merged / "model.safetensors")
    assert found.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in tensors:
            weight = (
                weight + config["lora_alpha"] / 2 * tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
            )
            changed += 1
        torch.testing.assert_close(found[name], tensors.get(f"base_model.model.{name}", weight))
    assert changed == 12
    assert "quantization_config" not in json.loads((merged / "config.json").read_text())


def test_training_after_an_evaluation_reaches_every_adapter(tmp_path: Path) -> None:
    """On a CPU with AVX512-BF16 an evaluation repacks 4-bit weights for good, and no gradient passes those."""
    wide("seq2seq", tmp_path / "base")
    loaded = load_trainable(resolve(str(quantize(tmp_path / "base", tmp_path / "packed", 4))))
    logits(loaded.model)
    config = LoraConfig(rank=2, targets=("all-linear",))
    attached: Any = LoraMethod().attach(loaded, config, torch.float32)
    ids = torch.arange(5, 15).reshape(1, 10)
    for _ in range(2):
        logits(loaded.model)
        loaded.model.train()
        output: Any = loaded.model(input_ids=ids, labels=ids[:, :4])
        output.loss.backward()
        with torch.no_grad():
            for parameter in attached.tensors().values():
                parameter -= 0.1 * parameter.grad if parameter.grad is not None else 0
    count = 2 * len(chosen(load_trainable(resolve(str(tmp_path / "base"))), ["all-linear"]))
    reached = [name for name, parameter in attached.tensors().items() if parameter.grad is not None]
    assert len(reached) == count > 40
    assert all(bool(parameter.grad.any()) for parameter in attached.tensors().values())


def test_what_was_repacked_is_put_back(tmp_path: Path) -> None:
    wide("encoder", tmp_path / "base")
    loaded = load_trainable(resolve(str(quantize(tmp_path / "base", tmp_path / "packed", 4))))
    modules: list[Any] = [module for module in loaded.model.modules() if hasattr(module, REPACKS)]
    stored = [module.weight.data.clone() for module in modules]
    expected = logits(loaded.model)
    keep_in_place(loaded.model)
    assert all(torch.equal(module.weight.data, data) for module, data in zip(modules, stored, strict=True))
    torch.testing.assert_close(logits(loaded.model), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_layers_answer_in_the_format_of_autocast(tmp_path: Path, bits: int) -> None:
    """As the same layers do where they are not packed."""
    wide("encoder", tmp_path / "base")
    folders = str(tmp_path / "base"), str(quantize(tmp_path / "base", tmp_path / "packed", bits))
    formats = []
    for folder in folders:
        loaded = load_trainable(resolve(folder))
        LoraMethod().attach(loaded, LoraConfig(rank=2, targets=("query",)), torch.float32)
        layer = dict(loaded.model.named_modules())["bert.encoder.layer.0.intermediate.dense"]
        inputs = torch.ones(1, 2, 64)
        plain = layer(inputs).dtype
        with torch.autocast("cpu", torch.bfloat16):
            formats.append((plain, layer(inputs).dtype))
    assert formats == [(torch.float32, torch.bfloat16)] * 2


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    asked = job(tmp_path)
    before = names(tmp_path)
    (planned,) = plan_qlora(asked, 4)
    assert names(tmp_path) == before
    run_qlora(asked, 4)
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert planned.trainable == manifest.steps[-1].metrics["params_trainable"]
    assert planned.memory.weights < 4 * planned.parameters / 2
    assert f"writes {tmp_path / 'out'}" in planned.notes[0]


def test_a_teacher_is_trained_of_the_full_weights(tmp_path: Path) -> None:
    asked = replace(job(tmp_path, max_steps=4), distillation=Distillation(distill=True))
    first, own = plan_qlora(asked, 4)
    assert first.trainable > 40_000 > own.trainable
    out = run_qlora(asked, 4)
    assert names(tmp_path) == ["base", "data.json", "out", "out-base", "out-teacher"]
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest.steps[-1].metrics["teacher_sha256"]


@pytest.mark.parametrize(
    "config", [LoraConfig(targets=("q_prj",)), LoraConfig(rank=2), LoraConfig(init="pissa", targets=("linear",))]
)
def test_what_is_refused_before_anything_is_written(config: LoraConfig, tmp_path: Path) -> None:
    asked = replace(job(tmp_path), config=config)
    if config.targets == ():
        asked = replace(asked, options=replace(asked.training, model=str(tmp_path / "lstm")))
        makers.lstm(tmp_path / "lstm")
    before = names(tmp_path)
    with pytest.raises(UsageError, match=r"matches nothing|own linear layers|pissa"):
        run_qlora(asked, 4)
    assert names(tmp_path) == before


def test_a_taken_output_is_told_before_a_teacher_is_trained(tmp_path: Path) -> None:
    asked = replace(job(tmp_path), distillation=Distillation(distill=True))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    before = names(tmp_path)
    with pytest.raises(UsageError, match="not empty"):
        run_qlora(asked, 4)
    assert names(tmp_path) == before


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    asked = job(tmp_path, overwrite=True)
    (tmp_path / "out-base").mkdir()
    (tmp_path / "out-base" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"out-base is in the way .*not one of compresskit"):
        run_qlora(asked, 4)
    assert names(tmp_path / "out-base") == ["mine.txt"]


def test_a_plan_with_a_teacher_of_a_model_without_head(tmp_path: Path) -> None:
    asked = replace(job(tmp_path), distillation=Distillation(distill=True))
    makers.without_head(tmp_path / "base")
    _, own = plan_qlora(asked, 4)
    assert any(f"packs first, to {tmp_path / 'out-base'}" in note for note in own.notes)


def test_a_packed_model_is_adapted_by_lora(tmp_path: Path) -> None:
    wide("encoder", tmp_path / "base")
    packed = quantize(tmp_path / "base", tmp_path / "packed", 4)
    asked = job(tmp_path)
    makers.data(tmp_path / "data.json")
    with pytest.raises(InputError, match="eval and predict take it, lora too where bitsandbytes packed it"):
        run_qlora(replace(asked, options=replace(asked.training, model=str(packed))), 4)
