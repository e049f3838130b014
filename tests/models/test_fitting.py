"""A configuration of no more than its files hold is never refused, whatever is tied, computed, or left out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING

from compresskit.models import fitting
from compresskit.models.encoder import EncoderFamily
from compresskit.models.tasks.readable import UNREADABLE
from tests.contract import readers

# Their usual configuration builds no model.
ODD = {"ministral", "nemotron"}
FAST = ("gpt_neo", "mt5")  # masks of all positions in each block; a vocabulary that is most of the model
KINDS = [kind for kind in readers.KINDS if kind not in {*UNREADABLE, *ODD}]


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_an_architecture_of_its_usual_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file has no head, and tied weights once."""
    family, config = EncoderFamily(), CONFIG_MAPPING[kind]()
    if kind == "xmod":
        config.default_language = config.languages[0]
    with torch.device("meta"):
        model = family.build(config)
    left_out = family.head(model) | set(model.all_tied_weights_keys)
    shapes = [(name, tuple(t.shape)) for name, t in model.state_dict().items() if name not in left_out]
    monkeypatch.setattr(fitting, "tensor_shapes", lambda folder: iter(shapes))
    fitting.check_fits(family, Path("folder"), config)
