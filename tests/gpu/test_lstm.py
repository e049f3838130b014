"""BiLSTM readers on a GPU: cuDNN's fused kernel under masks, packed, and the same numbers as on a CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.masker import Masker
from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.family import LstmFamily
from compresskit.models.lstm.model import LstmReader

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

KINDS: dict[str, dict[str, Any]] = {
    "matching": {"attention": "additive"},
    "flow": {"attention": "flow", "pooling": "max", "modelling_layers": 1, "num_hidden_layers": 2, "characters": True},
}


def reader(kind: str) -> LstmReader:
    torch.manual_seed(0)
    return LstmReader(LstmReaderConfig(vocab_size=60, embedding_dim=24, hidden_size=32, dropout=0.0, **KINDS[kind]))


def batch() -> dict[str, torch.Tensor]:
    """Windows of 20, 9 and 31 tokens, padded to 32."""
    ids, types, mask = (torch.zeros(3, 32, dtype=torch.long) for _ in range(3))
    for row, length in enumerate((20, 9, 31)):
        ids[row, :length] = torch.randint(4, 60, (length,))
        ids[row, 0], ids[row, 5], ids[row, length - 1] = 2, 3, 3
        types[row, 6:length] = 1
        mask[row, :length] = 1
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_same_as_on_a_cpu_by_cudnns_kernel(kind: str, masked: bool) -> None:
    on_cpu, inputs = reader(kind), batch()
    on_gpu: Any = copy.deepcopy(on_cpu)
    on_gpu.cuda()
    maskers = []
    for model in (on_cpu, on_gpu) if masked else ():
        torch.manual_seed(1)
        masker = Masker(LstmFamily().prunable(model), PruneConfig(sparsity=0.7, penalty=0.0))
        for scores in masker.scores():
            scores.data.copy_(torch.randn(scores.shape))
        masker.step(0.5)
        maskers.append(masker)
    family = LstmFamily()
    expected = family.logits(on_cpu, inputs)
    with torch.profiler.profile() as profile:
        found = family.logits(on_gpu, {name: values.cuda() for name, values in inputs.items()})
        found[found.isfinite()].square().sum().backward()
    expected[expected.isfinite()].square().sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"aten::_cudnn_rnn", "aten::_cudnn_rnn_backward"} <= names
    assert not any("lstm_cell" in name for name in names)
    # The sampled thresholds of a GPU are exact for so small matrices.
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=1e-2)
    for ours, theirs in zip(on_cpu.parameters(), on_gpu.parameters(), strict=True):
        if ours.grad is not None and theirs.grad is not None:
            scale = float(ours.grad.abs().max()) + 1e-6
            assert float((theirs.grad.cpu() - ours.grad).abs().max()) < 0.03 * scale + 1e-5


def test_masks_in_bf16_teach_their_scores() -> None:
    model: Any = reader("flow").train()
    model.cuda()
    inputs = batch()
    masker = Masker(LstmFamily().prunable(model), PruneConfig(sparsity=0.5), torch.bfloat16)
    nn.init.normal_(masker.scores()[0])
    masker.step(0.9)
    with torch.autocast("cuda", torch.bfloat16):
        logits = LstmFamily().logits(model, {name: values.cuda() for name, values in inputs.items()})
    logits[logits.isfinite()].square().sum().backward()
    assert all(scores.grad is not None and scores.grad.isfinite().all() for scores in masker.scores())
    assert all(scores.grad is not None and scores.grad.any() for scores in masker.scores())
