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
    """Windows of 20, 9 and 31 tokens, padded to 32; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    ids, types, mask = (torch.zeros(3, 32, dtype=torch.long) for _ in range(3))
    for row, length in enumerate((20, 9, 31)):
        ids[row, :length] = torch.randint(4, 60, (length,), generator=generator)
        ids[row, 0], ids[row, 5], ids[row, length - 1] = 2, 3, 3
        types[row, 6:length] = 1
        mask[row, :length] = 1
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full fp32 on the GPU, so that only the order of sums differs from the CPU's."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_same_as_on_a_cpu_by_cudnns_kernel(kind: str, masked: bool) -> None:
    on_cpu, inputs = reader(kind), batch()
    on_gpu: Any = copy.deepcopy(on_cpu)
    on_gpu.cuda()
    for model in (on_cpu, on_gpu) if masked else ():
        torch.manual_seed(1)
        masker = Masker(LstmFamily().prunable(model), PruneConfig(sparsity=0.7, penalty=0.0))
        for scores in masker.scores():
            scores.data.copy_(torch.randn(scores.shape))
        masker.step(0.5)  # the thresholds are exact on both: a GPU samples larger matrices only
    family = LstmFamily()
    expected = family.logits(on_cpu, inputs)
    with torch.profiler.profile() as profile:
        found = family.logits(on_gpu, on_the_gpu(inputs))
        found[found.isfinite()].square().sum().backward()
    expected[expected.isfinite()].square().sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"aten::_cudnn_rnn", "aten::_cudnn_rnn_backward"} <= names
    assert not any("lstm_cell" in name for name in names)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
    for (name, ours), theirs in zip(on_cpu.named_parameters(), on_gpu.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(theirs.grad.cpu(), ours.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_masks_in_bf16_teach_their_scores(kind: str) -> None:
    """What `prune` does on a GPU by default; the gradients are those of fp32 but for the rounding of bf16."""
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        model: Any = reader(kind).train()
        model.cuda()
        masker = Masker(LstmFamily().prunable(model), PruneConfig(sparsity=0.5, penalty=0.0), dtype)
        for number, scores in enumerate(masker.scores()):
            nn.init.normal_(scores, generator=torch.Generator("cuda").manual_seed(number))
        masker.step(0.9)
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            logits = LstmFamily().logits(model, on_the_gpu(batch()))
        logits[logits.isfinite()].square().sum().backward()
        gradients.append(torch.cat([scores.grad.flatten() for scores in masker.scores()]))  # type: ignore[union-attr]
    exact, rounded = gradients
    assert rounded.isfinite().all()
    assert (rounded - exact).norm() < 0.05 * exact.norm()


def test_small_gradients_survive_autocast() -> None:
    """Autocast alone would have cuDNN compute in fp16, in which these are 0."""
    model: Any = reader("matching").train()
    model.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        logits = LstmFamily().logits(model, on_the_gpu(batch()))
    (1e-9 * logits[logits.isfinite()].square().sum()).backward()
    assert all(p.grad.any() for name, p in model.named_parameters() if "encoder" in name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_reader_loaded_in_half_the_bytes(dtype: torch.dtype) -> None:
    model: Any = reader("flow").eval()
    model.cuda()
    exact = LstmFamily().logits(model, on_the_gpu(batch()))
    model.to(dtype)
    found = LstmFamily().logits(model, on_the_gpu(batch()))
    finite = exact.isfinite()
    assert torch.equal(finite, found.isfinite())
    assert float((found - exact)[finite].abs().max()) < 0.05


def on_the_gpu(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values.cuda() for name, values in inputs.items()}
