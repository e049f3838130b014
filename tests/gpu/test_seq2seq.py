"""T5, LoRA and QLoRA on a GPU: answers, gradients, optimizers that go on exactly, and the planned memory."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    MambaConfig,
    MambaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from compresskit.checkpoint.manifest import read_manifest
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.qlora import plan_qlora, run_qlora
from compresskit.methods.run import plan, run
from compresskit.models.answering import AnswerOptions
from compresskit.models.kinds.bnb import REPACKS
from compresskit.models.registry import load
from compresskit.training import state
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers
from tests.methods.quantize.test_quantize import logits, quantize, wide

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


def job(root: Path, base: Path, **options: Any) -> Job:
    if not (root / "data.json").exists():
        makers.data(root / "data.json")
    settings: dict[str, Any] = {"max_steps": 6, "batch_size": 4, "max_length": 48, "stride": 8, "device": "cuda"}
    settings |= {"train_data": str(root / "data.json"), "save_steps": 3} | options
    return Job("lora", TrainingOptions(str(base), root / "out", **settings), LoraConfig(rank=2))


@pytest.mark.parametrize("beams", [1, 3])
def test_a_t5_writes_the_same_on_both_devices(tmp_path: Path, beams: int) -> None:
    base = wide("seq2seq", tmp_path / "base")
    found = []
    for device in ("cuda", "cpu"):
        loaded = load(str(base), device=device)
        options = AnswerOptions(48, 8, beams=beams, n_best=2)
        found.append(list(loaded.task.answer(loaded, tiny.examples(16), options)))
    for one, two in zip(*found, strict=True):
        assert one.span_text == two.span_text
        assert one.null_score == pytest.approx(two.null_score, abs=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_compute_the_same_on_both_devices(tmp_path: Path, bits: int, dtype: str) -> None:
    packed = quantize(wide("seq2seq", tmp_path / "base"), tmp_path / "packed", bits)
    there: Any = load(str(packed), device="cuda", dtype=dtype).model
    here = logits(load(str(packed), device="cpu").model)
    ids = torch.arange(5, 25, device="cuda").reshape(2, 10)
    with torch.no_grad():
        for _ in range(2):
            found = there(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=ids[:, :3]).logits
    loose = 0.02 if dtype == "float32" else 0.1  # eight bits multiply in fp16 anyway
    torch.testing.assert_close(found.float().cpu().flatten(), here, atol=loose * float(here.abs().max()), rtol=0)
    if bits == 4:
        formats = {m.weight.dtype for name, m in there.named_modules() if hasattr(m, REPACKS) and name.endswith("wo")}
        assert formats == {torch.float32}


@pytest.mark.parametrize("bits", [0, 4, 8])
@pytest.mark.parametrize("family", ["encoder", "seq2seq"])
def test_every_adapter_learns(tmp_path: Path, family: str, bits: int) -> None:
    """The run itself watches the gradients; here B has left its zeros everywhere."""
    base = wide(family, tmp_path / "base")
    asked = job(tmp_path, base, lr=0.05)
    asked = dataclasses.replace(asked, config=LoraConfig(rank=2, targets=("all-linear",)))
    out = run_qlora(asked, bits) if bits else run(asked)
    tensors = load_file(out / "adapter_model.safetensors")
    assert tensors
    assert all(bool(tensor.any()) for tensor in tensors.values())


@pytest.mark.parametrize("name", ["adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor"])
def test_an_optimizer_goes_on_exactly(tmp_path: Path, name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base = wide("seq2seq", tmp_path / "base")
    settings = {"optimizer": name, "gradient_checkpointing": True, "lr": 0.01}
    asked = job(tmp_path, base, **settings)
    asked = dataclasses.replace(asked, method="train", config=TrainConfig())
    whole = load_file(run(asked) / "model.safetensors")
    commit = state.commit_state

    def killed(*arguments: Any) -> None:
        commit(*arguments)
        raise KeyboardInterrupt

    again = dataclasses.replace(asked, options=dataclasses.replace(asked.training, output=tmp_path / "again"))
    with monkeypatch.context() as patched:
        patched.setattr(state, "commit_state", killed)
        with pytest.raises(KeyboardInterrupt):
            run(again)
    again = dataclasses.replace(again, options=dataclasses.replace(again.training, resume=True))
    found = load_file(run(again) / "model.safetensors")
    assert found.keys() == whole.keys()
    for key, tensor in whole.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-4, rtol=1e-3)


def medium(family: str, folder: Path) -> Path:
    """Random weights in a size at which the parts of the memory are far above what CUDA needs for itself."""
    tokenizer = tiny.tokenizer()
    if family == "encoder":
        config = BertConfig(vocab_size=30522, num_hidden_layers=6)
        BertForQuestionAnswering(config).save_pretrained(folder)
    elif family == "causal":
        tokenizer.eos_token = tokenizer.sep_token
        mamba = MambaConfig(vocab_size=32128, hidden_size=512, num_hidden_layers=6, pad_token_id=tokenizer.pad_token_id)
        MambaForCausalLM(mamba).save_pretrained(folder)
    else:
        tokenizer.eos_token = tokenizer.sep_token
        shape = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
        seq2seq = T5Config(vocab_size=32128, pad_token_id=tokenizer.pad_token_id, **shape)  # type: ignore[arg-type]
        seq2seq.eos_token_id, seq2seq.decoder_start_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        T5ForConditionalGeneration(seq2seq).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


MEMORY: dict[str, tuple[str, dict[str, Any]]] = {
    "train": ("train", {}),
    "train, small batch": ("train", {"batch_size": 2}),
    "train, checkpointed": ("train", {"gradient_checkpointing": True}),
    "train, accumulated": ("train", {"accumulate": 2, "batch_size": 8}),
    "train, 8-bit moments": ("train", {"optimizer": "adamw-8bit", "batch_size": 4}),
    "train, adafactor": ("train", {"optimizer": "adafactor", "batch_size": 4}),
    "prune": ("prune", {}),
    "lora": ("lora", {}),
    "qlora 4": ("qlora", {"bits": 4}),
    "qlora 8": ("qlora", {"bits": 8}),
}


@pytest.mark.parametrize("family", ["encoder", "seq2seq", "causal"])
@pytest.mark.parametrize("name", MEMORY)
def test_the_planned_memory_is_the_measured_peak(tmp_path: Path, family: str, name: str) -> None:
    """Within 15 %, over all of the data."""
    method, more = MEMORY[name]
    base = medium(family, tmp_path / "base")
    settings = {"max_steps": 3, "batch_size": 16, "max_length": 128, "train_data": "demo", "max_train_samples": 48}
    settings |= {key: value for key, value in more.items() if key != "bits"}
    asked = job(tmp_path, base, **settings)
    if method == "train":
        asked = dataclasses.replace(asked, method="train", config=TrainConfig())
    if method == "prune":
        asked = dataclasses.replace(asked, method="prune", config=PruneConfig(method="movement"))
        if family == "encoder":
            asked = dataclasses.replace(asked, config=PruneConfig(method="magnitude"))
    (planned,) = plan_qlora(asked, more["bits"]) if method == "qlora" else plan(asked)
    gc.collect()
    before = torch.cuda.memory_allocated()  # what earlier tests have left
    out = run_qlora(asked, more["bits"]) if method == "qlora" else run(asked)
    manifest = read_manifest(out)
    assert manifest is not None
    measured = manifest.steps[-1].metrics["peak_memory_bytes"] - before
    assert planned.memory.peak == pytest.approx(measured, rel=0.15), planned.memory
