"""Mamba's kernels: when they are taken, what is said where they are not, and what is computed on them.

The kernels themselves are tried in tests/gpu; here stand-ins in PyTorch take their place.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers.models.mamba2 import modeling_mamba2

from compresskit.models.mamba import kernels, mixer
from compresskit.models.mamba.adapters import put_adapters
from compresskit.models.mamba.mixer import use_own_mixers
from compresskit.models.mamba.scan import selective_scan
from tests.models.mamba import fused
from tests.models.mamba.small import FAMILIES, ids, small
from tests.models.mamba.test_scan import inputs


@pytest.fixture
def looked_for() -> Iterator[None]:
    """The kernels are looked for anew, and again afterwards."""
    kernels._kernels.cache_clear()
    yield
    kernels._kernels.cache_clear()


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixers compute on stand-ins, though nothing here is on a GPU."""
    monkeypatch.setattr(mixer, "kernels_for", lambda _: fused.KERNELS)


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("length", [1, 2, 33])
@pytest.mark.parametrize("known", [True, False])
def test_the_scan_goes_on_from_a_state(length: int, known: bool, gate: bool) -> None:
    given = {name: tensor.detach() for name, tensor in inputs(2, 3, length, 4, dtype=torch.float32).items()}
    given["state"] = given["state"] if known else None
    given["z"] = given["z"] if gate else None
    wanted = selective_scan(**given | {"dt": functional.softplus(given["dt"])})
    found = kernels.scan(fused.KERNELS, **given)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_long_prefix_leaves_nothing_behind() -> None:
    """The decay of a state over many tokens is never divided by, and never overflows."""
    given = {name: tensor.detach() for name, tensor in inputs(1, 3, 200, 4, dtype=torch.float32).items()}
    given["dt"] = given["dt"] + 50
    y, last = kernels.scan(fused.KERNELS, **given)
    assert bool(y.isfinite().all())
    assert bool(last.isfinite().all())


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("family", FAMILIES)
def test_mixers_on_kernels_compute_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(family)
    use_own_mixers(model)
    tokens = ids(2, 21)
    found = passes(model, tokens)
    monkeypatch.setattr(mixer, "kernels_for", lambda _: None)
    for one, two in zip(found, passes(model, tokens), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def passes(model: Any, tokens: Tensor) -> list[Tensor]:
    """Logits in training, in evaluation, and in three parts that follow each other."""
    found = [model.train()(tokens).logits, model.eval()(tokens, use_cache=False).logits]
    cache = None
    for part in tokens.split([9, 11, 1], dim=1):
        outputs = model(part, cache_params=cache, use_cache=True)
        cache = outputs.cache_params
        found.append(outputs.logits)
    return found


@pytest.mark.usefixtures("stand_ins")
def test_every_adapter_learns_on_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """And has the gradients that it has on our scan."""
    model = small()
    use_own_mixers(model)
    lora = put_adapters(model, rank=4, alpha=8.0, targets=("in_proj", "x_proj", "out_proj", "dt_proj"))
    learned = [p for name, p in lora.named_parameters() if ".lora_" in name]
    with torch.no_grad():
        for parameter in learned:
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    tokens = ids(2, 16)
    grads = []
    for found in (fused.KERNELS, None):
        monkeypatch.setattr(mixer, "kernels_for", lambda _, found=found: found)
        model.train().zero_grad()
        model(tokens, labels=tokens).loss.backward()
        grads.append([p.grad for p in learned])
    for one, two in zip(*grads, strict=True):
        assert bool(one.any())
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("kind", [LoKrConfig, LoHaConfig])
def test_other_adapters_of_peft_are_called_and_not_read(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their `weight` is that of the base."""
    base = small()
    use_own_mixers(base)
    adapted: Any = get_peft_model(base, kind(r=2, target_modules=["x_proj", "out_proj"], init_weights=False)).eval()
    tokens = ids(2, 16)
    with torch.no_grad():
        found = adapted(tokens, use_cache=False).logits
        monkeypatch.setattr(mixer, "kernels_for", lambda _: None)
        torch.testing.assert_close(found, adapted(tokens, use_cache=False).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("options", [{"hidden_act": "gelu"}, {"conv_kernel": 6}])
def test_what_no_kernel_has_code_for_is_computed_by_our_scan(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(**options)
    use_own_mixers(model)
    found = passes(model, tokens := ids(2, 21))
    monkeypatch.setattr(mixer, "kernels_for", lambda _: None)
    assert all(map(torch.equal, found, passes(model, tokens)))


def reached(*_: Any, **__: Any) -> None:
    raise AssertionError("a kernel was called")


@pytest.mark.parametrize("family", [*FAMILIES, "mamba2"])
def test_on_a_cpu_no_kernel_is_looked_for(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed: transformers binds its kernels when it is imported, for tensors on any device."""
    monkeypatch.setattr(kernels, "_kernels", reached)
    model = small(family)
    tokens = ids(2, 21)
    wanted = passes(model, tokens) if family == "mamba2" else None
    for name in ("causal_conv1d_fn", "causal_conv1d_update", "mamba2_chunk_scan", "mamba2_selective_state_update"):
        monkeypatch.setattr(modeling_mamba2, name, reached)
    assert use_own_mixers(model) == 2
    found = passes(model, tokens)
    if wanted is not None:
        assert all(map(torch.equal, found, wanted))


@pytest.mark.usefixtures("looked_for")
def test_without_the_packages_one_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "causal_conv1d" else object())
    assert kernels._kernels() is None
    assert kernels._kernels() is None
    told = capsys.readouterr().err
    assert told.count("causal-conv1d not installed") == 1
    assert "mamba-ssm" not in told


@pytest.mark.usefixtures("looked_for")
def test_kernels_of_another_torch_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(name: str) -> None:
        raise ImportError("selective_scan_cuda.so: undefined symbol: _ZN3c104cuda9SetDeviceEab\nmore")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(importlib, "import_module", failing)
    assert kernels._kernels() is None
    told = " ".join(capsys.readouterr().err.split())
    assert f"do not run with torch {torch.__version__} on this GPU (selective_scan_cuda.so: undefined symbol" in told
    assert "build them again for this torch (docs/reference/mamba.md), or uninstall them" in told
    assert "more)" not in told
