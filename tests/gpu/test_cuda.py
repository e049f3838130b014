"""What only a GPU can show: sampled thresholds, bf16 masks, CUDA memory, and the verbs on CUDA."""

from __future__ import annotations

import json
from typing import cast

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from compresskit.cli.app import main
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.masked import original_weight
from compresskit.methods.prune.masker import Masker
from compresskit.methods.prune.threshold import SAMPLE, common_threshold, thresholds
from compresskit.models.encoder import EncoderFamily

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.03])
def test_sampled_thresholds_keep_the_fraction(fraction):
    generator = torch.Generator(device="cuda").manual_seed(0)
    shapes = [(768, 768), (3072, 768), (768, 3072), (100, 60)]
    matrices = [torch.randn(shape, generator=generator, device="cuda") for shape in shapes]
    found = thresholds(matrices, torch.full((len(shapes),), fraction, device="cuda"))
    for matrix, value in zip(matrices, found, strict=True):
        kept = float((matrix >= value).float().mean())
        error = (fraction * (1 - fraction) / min(matrix.numel(), SAMPLE / 2)) ** 0.5
        assert abs(kept - fraction) < 5 * error
    pooled = torch.cat([matrix.flatten() for matrix in matrices])
    assert abs(float((pooled >= common_threshold(matrices, fraction)).float().mean()) - fraction) < 0.005


@pytest.mark.parametrize("method", ["smp", "smp-l", "movement", "soft-movement", "magnitude"])
def test_a_step_in_bf16_masks_what_the_threshold_says(method):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    model = BertForQuestionAnswering(config).train()
    masker = Masker(EncoderFamily().weights(model), PruneConfig(method=method, sparsity=0.7), torch.bfloat16)
    for scores in masker.scores():
        torch.nn.init.normal_(scores)
    model.cuda()
    masker.step(0.9)
    for name, module in masker.modules.items():
        original, effective = original_weight(module, "weight"), cast(torch.Tensor, module.weight)
        kept = masker.masks[name].importance(original) >= masker.masks[name].threshold
        assert effective.dtype == torch.bfloat16
        assert torch.equal(effective, torch.where(kept, original.bfloat16(), 0))
    with torch.autocast("cuda", torch.bfloat16):
        model(torch.arange(20, device="cuda")[None]).start_logits.float().sum().backward()
    learning = masker.scores() or [original_weight(module, "weight") for module in masker.modules.values()]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in learning)


def test_the_verbs_on_cuda(tmp_path, capsys):
    small = ["--device", "cuda", "--max-train-samples", "64", "--max-steps", "6", "--batch-size", "8"]
    assert main(["train", "demo/bert", "-o", str(tmp_path / "dense"), *small]) == 0
    dense = str(tmp_path / "dense")
    prune = ["prune", dense, "--train-data", "demo", "--distill", "--teacher", dense, "-o", str(tmp_path / "mask")]
    assert main([*prune, *small]) == 0
    capsys.readouterr()
    evaluation = ["eval", dense, str(tmp_path / "mask"), "--data", "demo", "--format", "json", "--device", "cuda"]
    assert main(evaluation) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["device"]["kind"] == "cuda"
    for row in report["rows"]:
        assert row["peak_memory_kind"] == "cuda"
        assert row["peak_memory_bytes"] > row["params_total"] * 4
        assert row["latency_ms_p95"] >= row["latency_ms_p50"] > 0
