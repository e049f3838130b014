"""GPT-2 keeps its weights as (inputs, outputs): masks and adapters on them, and what refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from compresskit.errors import InputError, UsageError
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.qlora import run_qlora
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.registry import load
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers

# The weights of a block, as GPT-2 calls them.
WEIGHTS = [f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a GPT-2 of one block, and data."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tiny.TOKENS), n_positions=128, n_embd=16, n_layer=1, n_head=2, bos_token_id=3, eos_token_id=3
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    makers.data(tmp_path / "data.json")
    return tmp_path


def job(root: Path, method: str, config: Any) -> Job:
    settings: dict[str, Any] = {"max_steps": 6, "batch_size": 4, "max_length": 48, "stride": 8, "device": "cpu"}
    settings |= {"train_data": str(root / "data.json")} | ({"lr": 1e-2} if method == "lora" else {})
    return Job(method, TrainingOptions(str(root / "base"), root / "out", **settings), config)


def weights(folder: Path) -> dict[str, Tensor]:
    model = load(str(folder), device="cpu").model
    assert isinstance(model, GPT2LMHeadModel)
    return {name: model.get_parameter(name).detach() for name in WEIGHTS}


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model.eval()(input_ids=torch.arange(20).view(2, 10)).logits
    return found


@pytest.mark.parametrize("block", [(1, 1), (4, 4)])
def test_masks_lie_on_all_weights_of_the_blocks(root: Path, block: tuple[int, int]) -> None:
    out = run(job(root, "prune", PruneConfig(sparsity=0.5, block=block)))
    before, after = weights(root / "base"), weights(out)
    kept = {name: after[name] != 0 for name in WEIGHTS}
    assert sum(int(each.sum()) for each in kept.values()) == sum(each.numel() for each in kept.values()) / 2
    for name in WEIGHTS:
        assert torch.equal(after[name], before[name] * kept[name])
        rows, columns = (side // edge for side, edge in zip(kept[name].shape, block, strict=True))
        blocks = kept[name].view(rows, block[0], columns, block[1]).sum(dim=(1, 3))
        assert set(blocks.unique().tolist()) <= {0, block[0] * block[1]}


def test_a_block_that_is_not_square_means_another_one_there(root: Path) -> None:
    with pytest.raises(UsageError, match=r"c_attn.weight has its outputs in columns \(Conv1D\), .* --block NxN"):
        run(job(root, "prune", PruneConfig(block=(4, 2))))
    assert not list(root.glob("out*"))


@pytest.mark.parametrize("settings", [{}, {"init": "pissa"}, {"dora": True}], ids=["lora", "pissa", "dora"])
def test_adapters_are_those_of_plain_peft(root: Path, settings: dict[str, Any]) -> None:
    out = run(job(root, "lora", LoraConfig(rank=2, **settings)))
    ours = logits(load(str(out), device="cpu").model)
    base = AutoModelForCausalLM.from_pretrained(root / "base")
    assert (ours - logits(base)).abs().max() > 1e-2
    torch.testing.assert_close(logits(PeftModel.from_pretrained(base, out)), ours, rtol=1e-4, atol=1e-4)
    run(Job("merge", MergeOptions(str(out), root / "merged"), MergeConfig()))
    merged = AutoModelForCausalLM.from_pretrained(root / "merged")
    torch.testing.assert_close(logits(merged), ours, rtol=1e-4, atol=1e-4)


def test_no_layer_of_gpt2_has_queries_and_values_alone(root: Path) -> None:
    with pytest.raises(UsageError, match=r"--targets query-value matches nothing .* it has c_attn, c_fc, c_proj"):
        run(job(root, "lora", LoraConfig(targets=("query-value",))))


def test_a_rank_that_no_start_from_the_weights_has(root: Path) -> None:
    with pytest.raises(UsageError, match=r"--rank 20 is more than .* has with --init pissa"):
        run(job(root, "lora", LoraConfig(rank=20, init="pissa")))


@pytest.mark.parametrize("settings", [{}, {"backend": "bitsandbytes", "bits": 4}], ids=["torch", "bitsandbytes"])
def test_no_backend_packs_them(root: Path, settings: dict[str, Any]) -> None:
    options = QuantizeOptions(str(root / "base"), root / "out")
    with pytest.raises(InputError, match=r"transposed \(Conv1D, as GPT-2\), which no backend packs"):
        run(Job("quantize", options, QuantizeConfig(**settings)))
    assert not list(root.glob("out*"))


def test_qlora_packs_nothing_either(root: Path) -> None:
    with pytest.raises(InputError, match="which no backend packs"):
        run_qlora(job(root, "lora", LoraConfig()), 4)
    assert not list(root.glob("out*"))
