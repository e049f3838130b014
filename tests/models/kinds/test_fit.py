"""Whether an adapter fits its base by the headers of their files, under whatever names."""

from pathlib import Path

import pytest
import torch

from compresskit.checkpoint.store import save_tensors
from compresskit.errors import InputError
from compresskit.models.kinds.fit import check_adapter, finder

A, B = "base_model.model.bert.layer.0.query.lora_A.weight", "base_model.model.bert.layer.0.query.lora_B.weight"
HEAD = "base_model.model.qa_outputs.weight"


def check(folder: Path, **tensors: torch.Tensor) -> None:
    """Check an adapter on a base with a layer (6, 4), a head (2, 6), and a layer that bitsandbytes packed as floats."""
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir()
    adapter.mkdir()
    packed = {"layer.0.key.weight": torch.ones(3, 1), "layer.0.key.weight.absmax": torch.ones(3)}
    save_tensors(
        base / "model.safetensors",
        {"layer.0.query.weight": torch.ones(6, 4), "qa_outputs.weight": torch.ones(2, 6), **packed},
    )
    save_tensors(adapter / "adapter_model.safetensors", tensors)
    check_adapter(adapter, finder(base))


def test_what_fits(tmp_path: Path) -> None:
    """A product, one of a transposed layer, other tensors of PEFT's, and weights whose shape is not known."""
    known = {A: torch.ones(2, 4), B: torch.ones(6, 2), HEAD: torch.ones(2, 6)}
    known |= {A.replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(6)}
    known |= {A.replace("lora_A.weight", "shira_indices"): torch.ones(2, dtype=torch.int32)}
    known |= {A.replace("query", "key"): torch.ones(2, 4), B.replace("query", "key"): torch.ones(6, 2)}
    check(tmp_path, **known)


def test_a_transposed_layer(tmp_path: Path) -> None:
    check(tmp_path, **{A: torch.ones(2, 6), B: torch.ones(4, 2)})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {A: torch.ones(2, 5), B: torch.ones(6, 2)},
            r"query is \(6, 5\), where the base has \(6, 4\); give it its own",
        ),
        (
            {HEAD: torch.ones(3, 6)},
            r"qa_outputs\.weight is \(3, 6\), where the base has \(2, 6\); give it its own base",
        ),
        ({A: torch.ones(2, 4, dtype=torch.int32)}, r"has .*lora_A\.weight as I32, which are no weights; copy it again"),
        ({HEAD: torch.ones(2, 6, dtype=torch.uint8)}, r"has .*qa_outputs\.weight as U8, which are no weights; copy it"),
        ({}, "holds no tensor; it is damaged: copy or make it again"),
    ],
)
def test_what_does_not_fit(tensors: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        check(tmp_path, **tensors)
