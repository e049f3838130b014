"""The scan in chunks against the recurrence written out, one token after the other, in float64."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from compresskit.models.mamba import scan
from compresskit.models.mamba.scan import selective_scan

Inputs = dict[str, Any]


def inputs(batch: int, d: int, length: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """Inputs of the size that Mamba's have."""
    torch.manual_seed(seed)
    drawn = {
        "x": torch.randn(batch, d, length),
        "dt": functional.softplus(torch.randn(batch, d, length) - 2),
        "A": -torch.rand(d, n) * 16,
        "B": torch.randn(batch, length, n),
        "C": torch.randn(batch, length, n),
        "D": torch.randn(d),
        "z": torch.randn(batch, d, length),
        "state": torch.randn(batch, d, n),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in drawn.items()}


def recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The formulas of the paper, token by token."""
    outputs = []
    for t in range(x.shape[2]):
        step = dt[:, :, t, None]
        state = torch.exp(step * A) * state + step * B[:, t, None, :] * x[:, :, t, None]
        y = (state * C[:, t, None, :]).sum(-1) + D * x[:, :, t]
        outputs.append(y * functional.silu(z[:, :, t]))
    return torch.stack(outputs, dim=2), state


def gradients(outputs: tuple[Tensor, Tensor], given: Inputs) -> list[Tensor]:
    """Of a loss that outputs and last state both take part in."""
    loss = sum((tensor * torch.linspace(-1, 1, tensor.numel()).view_as(tensor)).sum() for tensor in outputs)
    return list(torch.autograd.grad(loss, list(given.values())))  # type: ignore[arg-type]


SHAPES = {
    "batch": st.integers(1, 3),
    "d": st.integers(1, 5),
    "length": st.integers(1, 40),
    "n": st.integers(1, 4),
    "seed": st.integers(0, 1000),
}


@settings(deadline=None, max_examples=40)
@given(**SHAPES, chunk=st.integers(1, 20))
def test_it_is_the_recurrence_and_so_are_its_gradients(
    batch: int, d: int, length: int, n: int, chunk: int, seed: int
) -> None:
    drawn = inputs(batch, d, length, n, seed)
    wanted, found = recurrence(**drawn), selective_scan(**drawn, chunk=chunk)
    for a, b in zip((*found, *gradients(found, drawn)), (*wanted, *gradients(wanted, drawn)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [32, 33, 47, 48, 80, 101])
@pytest.mark.parametrize("chunk", [32, 64, 200])
def test_in_groups_as_on_a_gpu_it_is_the_same(length: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = inputs(2, 3, length, 4)
    wanted = recurrence(**drawn)
    in_groups = mock.Mock(wraps=scan._recur_in_groups)
    monkeypatch.setattr(scan, "_pays_in_groups", lambda values: len(values) >= 2 * scan.GROUP)
    monkeypatch.setattr(scan, "_recur_in_groups", in_groups)
    found = selective_scan(**drawn, chunk=chunk)
    for a, b in zip((*found, *gradients(found, drawn)), (*wanted, *gradients(wanted, drawn)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert in_groups.called


@settings(deadline=None, max_examples=20)
@given(**SHAPES, cut=st.integers(1, 39))
def test_a_prefix_and_the_rest_from_its_state_are_the_whole(
    batch: int, d: int, length: int, n: int, cut: int, seed: int
) -> None:
    whole = {name: tensor.detach() for name, tensor in inputs(batch, d, length + cut, n, seed).items()}
    axes = {"x": 2, "dt": 2, "z": 2, "B": 1, "C": 1}
    first, second = dict(whole), dict(whole)
    for name, axis in axes.items():
        first[name], second[name] = whole[name].split([cut, length], dim=axis)
    y, state = selective_scan(**first)
    rest, last = selective_scan(**{**second, "state": state})
    for a, b in zip((torch.cat((y, rest), dim=2), last), selective_scan(**whole), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_in_fp32_it_is_within_1e_5_of_float64_at_real_length() -> None:
    exact = {name: tensor.detach() for name, tensor in inputs(2, 8, 512, 16).items()}
    y, state = selective_scan(**{name: tensor.float() for name, tensor in exact.items()})
    assert y.dtype == state.dtype == torch.float32
    for found, wanted in zip((y, state), recurrence(**exact), strict=True):
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_nothing_overflows_where_a_state_is_forgotten_at_once() -> None:
    """The quotient of two decays, by which some scans are computed, would be infinite here."""
    drawn = inputs(1, 2, 40, 3, dtype=torch.float32)
    drawn["dt"] = (drawn["dt"] * 1000).detach().requires_grad_()
    outputs = selective_scan(**drawn)
    assert all(bool(tensor.isfinite().all()) for tensor in (*outputs, *gradients(outputs, drawn)))


@pytest.mark.parametrize("missing", ["z", "state"])
def test_gate_and_state_may_be_left_out(missing: str) -> None:
    drawn = {name: tensor.detach() for name, tensor in inputs(2, 3, 20, 4).items() if name != missing}
    neutral = {"z": torch.full((2, 3, 20), 100.0, dtype=torch.float64), "state": torch.zeros(2, 3, 4)}[missing]
    y, last = selective_scan(**drawn)
    wanted, state = recurrence(**{**drawn, missing: neutral})
    torch.testing.assert_close(y, wanted / 100 if missing == "z" else wanted)
    torch.testing.assert_close(last, state)


def test_autocast_and_bf16_are_computed_in_fp32() -> None:
    drawn = {name: tensor.detach() for name, tensor in inputs(2, 3, 20, 4, dtype=torch.bfloat16).items()}
    wanted = recurrence(**{name: tensor.double() for name, tensor in drawn.items()})
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in drawn.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = selective_scan(**leaves)
        grads = gradients(found, leaves)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b.float(), rtol=1e-5, atol=1e-5)
    assert all(grad.dtype == torch.bfloat16 for grad in grads)


def test_the_states_of_all_tokens_are_not_kept() -> None:
    """For the backward pass lie the inputs and the states between chunks; those inside would be 16 times these."""
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    drawn = inputs(1, 8, 256, 16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        selective_scan(**drawn, chunk=16)
    states = 8 * 16
    assert sum(size == states for size in kept) >= 256 // 16
    assert max(kept) < 256 * states
    assert sum(kept) < 256 * states
