"""What a checkpoint of weights or of masks tells of itself, against counts of the tensors themselves."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import entropy

from compresskit.checkpoint.mask import load_masks
from compresskit.errors import InputError
from compresskit.models.kind import Contents, Matrix, block_names
from compresskit.models.kinds import kind_of
from compresskit.models.source import Source
from tests.models import overlays, tiny
from tests.models.tiny import KINDS, Kind


def contents(folder: Path) -> Contents:
    source = Source(str(folder), folder)
    return kind_of(source).contents(source)


@pytest.fixture(scope="module", params=[(1, 1), (4, 8)], ids=["weights", "blocks"])
def overlay(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, torch.Tensor]]:
    root = tmp_path_factory.mktemp("contents")
    state = overlays.make(tiny.save("bert", root / "base"), root / "overlay", learns=False, block=request.param)
    return root / "overlay", state


def test_remaining_weights_of_an_overlay_are_the_nonzeros(overlay: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, state = overlay
    found = contents(folder)
    assert len(found.matrices) == 12
    for matrix in found.matrices:
        weight = state[matrix.name]
        assert (matrix.shape, matrix.size) == (tuple(weight.shape), weight.numel())
        assert matrix.remaining == sum(value != 0 for row in weight.tolist() for value in row)
        assert matrix.dtype == "mask"


def test_masks_tell_how_near_they_are_to_the_entropy_of_their_bits(
    overlay: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    folder, _ = overlay
    masks = load_masks(folder).values()
    least = sum(mask.bits.size * entropy([mask.bits.mean(), 1 - mask.bits.mean()], base=2) for mask in masks) / 8
    size = len((folder / "mask.safetensors").read_bytes())
    ((name, told),) = contents(folder).facts
    assert name == "masks"
    assert told.startswith(f"{size:,} bytes")
    found = re.search(r"([\d.]+) % over", told)
    assert found is not None
    assert float(found[1]) == pytest.approx(100 * (size / least - 1), abs=0.051)


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_of_a_plain_checkpoint(kind: Kind, tmp_path: Path) -> None:
    folder = tiny.save(kind, tmp_path / kind)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if ".1." in name and tensors[name].ndim == 2)
    tensors[name][:3] = 0
    tensors[name][5, ::2] = -0.0  # a negative zero is one too
    tensors[name] = tensors[name].to(torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = contents(folder)
    assert not found.facts
    expected = {n: t for n, t in tensors.items() if t.ndim == 2 and re.search(r"layer\.\d", n)}
    assert {matrix.name for matrix in found.matrices} == set(expected)
    for matrix in found.matrices:
        values = expected[matrix.name].flatten().tolist()
        assert matrix.remaining == len(values) - Counter(value == 0 for value in values)[True]
        assert matrix.dtype == ("bfloat16" if matrix.name == name else "float32")
    assert [matrix.layer for matrix in found.matrices] == [0] * 6 + [1] * 6
    roles = [matrix.role for matrix in found.matrices]
    assert roles[:6] == roles[6:]
    assert len(set(roles)) == 6
    assert not any("weight" in role or re.search(r"\d\.", role) for role in roles)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        contents(tmp_path)


@pytest.mark.parametrize("keep", [5, -50])
def test_a_truncated_file(keep: int, tmp_path: Path) -> None:
    path = tiny.save("bert", tmp_path / "bert") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=str(path)):
        contents(path.parent)


def test_blocks_of_several_stacks_are_told_apart() -> None:
    """The encoder's and the decoder's first block have matrices of the same name."""
    part = "layer.0.SelfAttention.q.weight"
    names = [f"decoder.block.0.{part}", f"encoder.block.0.{part}", f"base_model.model.encoder.block.1.{part}"]
    found = block_names([Matrix(name, (2, 2), "float32", 4, 4) for name in names])
    assert found == {("encoder", 0): "encoder 0", ("encoder", 1): "encoder 1", ("decoder", 0): "decoder 0"}
    one = [Matrix(f"bert.encoder.layer.{n}.output.dense.weight", (2, 2), "float32", 4, 4) for n in (1, 0)]
    assert list(block_names(one).values()) == ["0", "1"]
    assert {matrix.role for matrix in one} == {"output.dense"}
    assert Matrix(names[0], (2, 2), "float32", 4, 4).role == "SelfAttention.q"
    assert Matrix("embeddings.words.weight", (2, 2), "float32", 4, 4).block == ("words", -1)
