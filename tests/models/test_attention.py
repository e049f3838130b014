"""Masks that are made without a look; on a GPU in tests/gpu/test_answering.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.masking_utils import AttentionMaskInterface

from compresskit.models import attention

MASK = torch.ones(2, 5, dtype=torch.bool)


@pytest.mark.parametrize(("on_gpu", "skips"), [(True, False), (False, True)])
def test_on_a_gpu_alone_no_mask_is_left_out(monkeypatch: pytest.MonkeyPatch, on_gpu: bool, skips: bool) -> None:
    told: list[Any] = []
    monkeypatch.setattr(attention, "sdpa_mask", lambda **given: told.append(given))
    mask = SimpleNamespace(is_cuda=on_gpu)
    attention.mask_without_a_look(attention_mask=mask, allow_is_bidirectional_skip=True, q_length=5)
    assert told == [{"attention_mask": mask, "allow_is_bidirectional_skip": skips, "q_length": 5}]


def test_the_mask_is_that_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that models of fused attention ask by; nothing of it stays after the test."""
    monkeypatch.setattr(AttentionMaskInterface, "_global_mapping", dict(AttentionMaskInterface._global_mapping))
    attention.never_look_at_masks()
    made = AttentionMaskInterface()["sdpa"]
    assert made is attention.mask_without_a_look
    given: Any = {"batch_size": 2, "q_length": 5, "kv_length": 5, "allow_is_causal_skip": False}
    assert made(**given, attention_mask=MASK, allow_is_bidirectional_skip=True) is None
    padded = MASK.clone()
    padded[1, 3:] = False
    found: Any = made(**given, attention_mask=padded, mask_function=lambda b, h, q, k: k >= 0)
    assert torch.equal(found, padded[:, None, None].expand(2, 1, 5, 5))
