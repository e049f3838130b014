"""Adapters written as LoKr: plain PEFT opens them in a Mamba to the same logits."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from compresskit.checkpoint.store import load_tensors, read_json, write_json
from compresskit.errors import InputError
from compresskit.models.kinds.adapter import CONFIG, WEIGHTS
from compresskit.models.mamba.adapters import DEFAULT_TARGETS, save_adapters
from compresskit.models.mamba.plain import peft_plain
from tests.models.mamba.small import ids, small
from tests.models.mamba.test_adapters import adapted, logits


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("rank", [3, 40])
def test_plain_peft_opens_it_to_the_same_logits(rank: int, rslora: bool, tmp_path: Path) -> None:
    """At rank 40 the product of two matrices is more than half as wide as some layers: PEFT then has it as one."""
    base = small()
    model = copy.deepcopy(base)
    save_adapters(adapted(model, DEFAULT_TARGETS, rank=rank, rslora=rslora), tmp_path)
    with pytest.raises(ValueError, match="incompatible with Mamba"):
        PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    (tmp_path / "plain").mkdir()
    peft_plain(tmp_path, tmp_path / "plain")
    theirs = PeftModel.from_pretrained(base, tmp_path / "plain")
    torch.testing.assert_close(logits(theirs, tokens := ids(2, 16)), logits(model, tokens), rtol=1e-5, atol=2e-5)
    assert ("lokr_w2_a" in "".join(load_tensors(tmp_path / "plain" / WEIGHTS))) or rank == 40


@pytest.mark.parametrize("target", ["dt_proj", "embeddings"])
def test_what_plain_peft_cannot_compute_with_is_refused(target: str, tmp_path: Path) -> None:
    save_adapters(adapted(small(), ("in_proj", target)), tmp_path)
    with pytest.raises(InputError, match=f"adapts .*{target}, .*; merge it instead"):
        peft_plain(tmp_path, tmp_path / "plain")


@pytest.mark.parametrize("pattern", ["rank_pattern", "alpha_pattern"])
def test_ranks_of_their_own_are_refused(pattern: str, tmp_path: Path) -> None:
    save_adapters(adapted(small(), DEFAULT_TARGETS), tmp_path)
    write_json(tmp_path / CONFIG, read_json(tmp_path / CONFIG) | {pattern: {"x_proj": 2}})
    with pytest.raises(InputError, match="of their own in some layers"):
        peft_plain(tmp_path, tmp_path / "plain")
