"""Effective weights of many layers at once: values and gradients of one at a time, and only while a pass runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from compresskit.models.mamba import effective
from compresskit.models.mamba.adapters import adapter_tensors, put_adapters, take_adapters_off
from compresskit.models.mamba.layers import EffectiveLinear
from compresskit.models.mamba.mixer import use_own_mixers
from tests.models.mamba.small import ids, small

ALL = ("in_proj", "x_proj", "out_proj", "dt_proj")


def adapted(**more: Any) -> tuple[Any, dict[str, torch.nn.Parameter]]:
    """A Mamba, and its adapters, none of which is zero."""
    model = small(num_hidden_layers=3)
    use_own_mixers(model)
    learned = adapter_tensors(put_adapters(model, rank=4, alpha=6.0, **{"targets": ALL, **more}))
    with torch.no_grad():
        for parameter in learned.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model, learned


def layers_of(model: Any) -> list[EffectiveLinear]:
    return [module for module in model.modules() if isinstance(module, EffectiveLinear)]


def gradients(model: Any, tokens: Tensor, learned: dict[str, torch.nn.Parameter]) -> list[Tensor]:
    for parameter in learned.values():
        parameter.grad = None
    model.train()(tokens, labels=tokens, use_cache=False).loss.backward()
    return [parameter.grad.clone() for parameter in learned.values() if parameter.grad is not None]


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hooks compute on the CPU too."""

    def compute_anywhere(self: Any, *_: Any) -> None:
        if torch.is_grad_enabled():
            effective.compute([layer for layer in self._layers if layer.learns()])

    monkeypatch.setattr(effective.ComputedTogether, "_compute", compute_anywhere)


@pytest.mark.parametrize("largest", [1, 5000, 1 << 26])
def test_they_are_the_sums_of_each_layer(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many layers one call takes."""
    monkeypatch.setattr(effective, "LARGEST", largest)
    model, _ = adapted()
    effective.compute(layers_of(model))
    for layer in layers_of(model):
        A, B, _ = layer.adapter()
        assert layer.computed is not None
        torch.testing.assert_close(layer.computed, layer.base_weight() + 6.0 / 4 * (B @ A))


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize("rslora", [False, True])
def test_gradients_are_those_of_autograd(rslora: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, learned = adapted(rslora=rslora)
    tokens = ids(2, 9)
    together = gradients(model, tokens, learned)
    assert len(together) == len(learned)
    monkeypatch.setattr(effective, "compute", lambda _: None)
    for one, two in zip(together, gradients(model, tokens, learned), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("as_on_gpu")
def test_they_last_as_long_as_the_pass() -> None:
    """Also where it fails."""
    model, _ = adapted()
    tokens = ids(2, 9)
    model.train()(tokens, use_cache=False)
    assert all(layer.computed is None for layer in layers_of(model))
    with pytest.raises(IndexError):
        model(tokens + 1000, use_cache=False)
    assert all(layer.computed is None for layer in layers_of(model))


def test_under_autocast_they_are_in_its_format_and_learn_in_fp32() -> None:
    model, learned = adapted()
    with torch.autocast("cpu", torch.bfloat16):
        effective.compute(layers_of(model))
    for layer in layers_of(model):
        assert layer.computed is not None
        assert layer.computed.dtype == torch.bfloat16
        layer.computed.float().sum().backward(retain_graph=True)
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in learned.values())


def test_a_layer_with_dropout_or_switched_off_is_left_alone() -> None:
    model, _ = adapted(targets=("in_proj",), dropout=0.5)
    assert not any(layer.learns() for layer in layers_of(model))
    model, _ = adapted()
    assert all(layer.learns() for layer in layers_of(model))
    layers_of(model)[0].enable_adapters(False)
    assert not layers_of(model)[0].learns()


def test_hooks_go_with_the_adapters() -> None:
    model, _ = adapted()
    assert len(model.backbone._forward_pre_hooks) == len(model.backbone._forward_hooks) == 1
    take_adapters_off(model)
    assert not model.backbone._forward_pre_hooks
    assert not model.backbone._forward_hooks
