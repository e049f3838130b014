"""The comparison of logits: what is left out, and what is not a number, counts too."""

import math
from pathlib import Path

import pytest
import torch

from compresskit.models.probing import difference, logits
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from tests.contract import makers

ROW = torch.tensor([1.0, -math.inf, -4.0])


def test_the_largest_gap_in_parts_of_the_largest_logit() -> None:
    assert difference(ROW + torch.tensor([0.0, 0.0, 0.2]), ROW) == pytest.approx(0.05)
    assert difference(ROW / 100 + 0.5, ROW / 100) == pytest.approx(0.5)
    assert difference(ROW, ROW) == 0
    assert difference(ROW[1:2], ROW[1:2]) == 0


@pytest.mark.parametrize("changed", [[1.0, 0.0, -4.0], [math.nan, -math.inf, -4.0], [-math.inf, -math.inf, -4.0]])
def test_what_is_left_out_or_no_number_is_never_near(changed: list[float]) -> None:
    for pair in ((torch.tensor(changed), ROW), (ROW, torch.tensor(changed))):
        assert difference(*pair) == math.inf
    broken = torch.tensor([math.nan, 1.0])
    assert difference(broken, broken) == math.inf


@pytest.mark.parametrize("family", makers.FAMILIES)
def test_logits_are_the_same_on_every_call_and_many(family: str, tmp_path: Path) -> None:
    loaded = load_trainable(resolve(str(makers.made(family, tmp_path / "base"))))
    found = logits(loaded)
    assert torch.equal(found, logits(loaded))
    assert int(found.isfinite().sum()) > 50
