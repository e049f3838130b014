"""BiLSTM readers on a GPU: padded as packed sequences, under masks and autocast, and the same numbers as on a CPU."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.masked import original_weight
from compresskit.methods.prune.masker import Masker
from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.family import LstmFamily
from compresskit.models.lstm.layers import BiLSTM
from compresskit.models.lstm.model import LstmReader
from compresskit.models.tasks.span_batches import span_logits

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
def _exact() -> None:
    """Full fp32 on the GPU, so that only the order of sums differs from the CPU's; conftest.py takes it back."""
    backends: Any = torch.backends
    for place in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        place.fp32_precision = "ieee"


def mask_randomly(layer: BiLSTM, dtype: torch.dtype) -> dict[str, nn.Parameter]:
    """Half of each matrix masked for a step in `dtype`; the scores by the matrix's name."""
    names = [name for name, parameter in layer.named_parameters() if parameter.ndim == 2]
    masker = Masker(dict.fromkeys(names, layer), PruneConfig(sparsity=0.5, penalty=0.0, cooldown=0.0), dtype)
    for scores in masker.scores():
        scores.data.copy_(torch.randn(scores.shape))
    layer.train()
    masker.step(1.0)
    return dict(zip(names, masker.scores(), strict=True))


def effective_copy(layer: BiLSTM) -> nn.LSTM:
    """Torch's own LSTM with the weights that the layer computes with."""
    other = nn.LSTM(layer.input_size, layer.hidden_size, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for name in other._flat_weights_names:
            getattr(other, name).copy_(getattr(layer, name))
    return other


def packed_states(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]


# By PyTorch's cudnn/RNN.cpp the kernels are others up to 128 units, up to 192, and above.
@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("where", ["cuda", "cpu"])
@pytest.mark.parametrize("hidden", [100, 160, 256])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_gives_what_packed_sequences_give(dtype: torch.dtype, masked: bool, hidden: int, where: str) -> None:
    """States and gradients; bf16 is that of autocast, in which the recurrence is in fp32 and its ends are rounded."""
    torch.manual_seed(0)
    lengths = torch.tensor([40, 1, 77, 13, 77])
    inputs, upstream = (torch.randn(5, 77, size).to(dtype) for size in (50, 2 * hidden))
    layer: Any = BiLSTM(50, hidden)
    layer.cuda()
    scores = mask_randomly(layer, dtype) if masked else {}
    ours = inputs.to("cuda", copy=True).requires_grad_()
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        states = layer(ours, lengths.cuda())
    states.backward(upstream.cuda())

    reference = effective_copy(layer).to(where)
    theirs = inputs.to(where, torch.float32, copy=True).requires_grad_()
    expected = packed_states(reference, theirs, lengths)
    expected.backward(upstream.float().to(where))
    assert theirs.grad is not None
    assert ours.grad is not None
    assert states.dtype == dtype
    rtol = 1e-3 if dtype == torch.float32 else 1e-2  # two roundings to bf16 differ by less than 0.8 %
    torch.testing.assert_close(states.float().cpu(), expected.to(dtype).float().cpu(), rtol=rtol, atol=1e-5)
    torch.testing.assert_close(ours.grad.float().cpu(), theirs.grad.to(dtype).float().cpu(), rtol=rtol, atol=1e-4)
    for name, parameter in reference.named_parameters():
        assert parameter.grad is not None
        if masked and name in scores:
            found, gradient = scores[name].grad, parameter.grad.cpu() * original_weight(layer, name).detach().cpu()
        else:
            found, gradient = layer.get_parameter(name).grad, parameter.grad.cpu()
        assert found is not None
        torch.testing.assert_close(found.cpu(), gradient, rtol=rtol, atol=1e-4)


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_same_as_on_a_cpu_by_cudnns_kernel(kind: str, masked: bool) -> None:
    on_cpu, inputs = reader(kind), batch()
    on_gpu: Any = copy.deepcopy(on_cpu)
    on_gpu.cuda()
    for model in (on_cpu, on_gpu) if masked else ():
        torch.manual_seed(1)
        masker = Masker(LstmFamily().weights(model), PruneConfig(sparsity=0.7, penalty=0.0))
        for scores in masker.scores():
            scores.data.copy_(torch.randn(scores.shape))
        masker.step(0.5)  # the thresholds are exact on both: a GPU samples larger matrices only
    expected = span_logits(on_cpu, inputs)
    with torch.profiler.profile() as profile:
        found = span_logits(on_gpu, on_the_gpu(inputs))
        found[found.isfinite()].square().sum().backward()
    expected[expected.isfinite()].square().sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"aten::_cudnn_rnn", "aten::_cudnn_rnn_backward"} <= names
    assert not any("lstm_cell" in name for name in names)
    assert "aten::_pack_padded_sequence" not in names
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
        masker = Masker(LstmFamily().weights(model), PruneConfig(sparsity=0.5, penalty=0.0), dtype)
        for number, scores in enumerate(masker.scores()):
            nn.init.normal_(scores, generator=torch.Generator("cuda").manual_seed(number))
        masker.step(0.9)
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            logits = span_logits(model, on_the_gpu(batch()))
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
        logits = span_logits(model, on_the_gpu(batch()))
    (1e-9 * logits[logits.isfinite()].square().sum()).backward()
    assert all(p.grad.any() for name, p in model.named_parameters() if "encoder" in name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_reader_loaded_in_half_the_bytes(dtype: torch.dtype) -> None:
    model: Any = reader("flow").eval()
    model.cuda()
    exact = span_logits(model, on_the_gpu(batch()))
    model.to(dtype)
    found = span_logits(model, on_the_gpu(batch()))
    finite = exact.isfinite()
    assert torch.equal(finite, found.isfinite())
    assert float((found - exact)[finite].abs().max()) < 0.05


def test_a_pass_waits_for_the_gpu_once() -> None:
    """For the lengths of the longest question and context; the letters of words, which this reader lacks, wait too."""
    model: Any = reader("matching")
    model.cuda()
    inputs = on_the_gpu(batch())
    model(**inputs)  # the first pass sets cuDNN up
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model(**inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in caught if "called a synchronizing CUDA operation" in str(warning.message)]
    assert len(waits) == 1


def on_the_gpu(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values.cuda() for name, values in inputs.items()}
