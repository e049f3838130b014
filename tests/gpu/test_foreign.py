"""Checkpoints of other tools on a GPU: where they are, and that they say there what they say on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import nn

from compresskit.models.counting import count
from compresskit.models.registry import load
from tests.models import adapters, tiny
from tests.models.kinds.test_packed import CONFIGS, SIZES, quantize

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.save("bert", tmp_path / "base", **SIZES)


@torch.no_grad()
def answers(model: nn.Module, device: str) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=adapters.IDS.to(device)).start_logits
    return logits.float().cpu()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_quantized_checkpoint_goes_where_it_is_told(name: str, device: str, base: Path, tmp_path: Path) -> None:
    """Left alone, bitsandbytes takes the GPU where there is one."""
    written = answers(quantize(base, tmp_path / "folder", CONFIGS[name]), "cpu")
    loaded = load(str(tmp_path / "folder"), device=device)
    assert loaded.device.type == device
    assert {tensor.device.type for tensor in loaded.model.parameters()} == {device}
    assert (answers(loaded.model, device) - written).abs().mean() < 0.1
    counts = loaded.kind.stored(loaded)
    assert counts.total == count(load(str(base), device="cpu").model).total
    assert counts.total is not None
    assert counts.nonzero is not None
    assert 0.8 * counts.total < counts.nonzero < counts.total


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_its_other_numbers_have_the_asked_format(dtype: str, base: Path, tmp_path: Path) -> None:
    written = answers(quantize(base, tmp_path / "folder", CONFIGS["nf4"], torch.float16), "cpu")
    loaded = load(str(tmp_path / "folder"), device="cuda", dtype=dtype)
    assert (answers(loaded.model, "cuda") - written).abs().mean() < 0.1


def test_an_adapter(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["query"], task_type="QUESTION_ANS")
    folder = str(adapters.make(base, tmp_path / "adapter", config))
    loaded = load(folder, device="cuda")
    assert {tensor.device.type for tensor in loaded.model.parameters()} == {"cuda"}
    expected = answers(load(folder, device="cpu").model, "cpu")
    assert torch.allclose(answers(loaded.model, "cuda"), expected, atol=1e-2)


def test_an_adapter_on_a_quantized_base(base: Path, tmp_path: Path) -> None:
    quantize(base, tmp_path / "nf4", CONFIGS["nf4"])
    config = LoraConfig(r=2, target_modules=["query"], task_type="QUESTION_ANS")
    folder = str(adapters.make(tmp_path / "nf4", tmp_path / "adapter", config))
    loaded = load(folder, device="cuda")
    assert {tensor.device.type for tensor in loaded.model.parameters()} == {"cuda"}
    assert (answers(loaded.model, "cuda") - answers(load(folder, device="cpu").model, "cpu")).abs().mean() < 0.1
