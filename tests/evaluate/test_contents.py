"""What `inspect` finds in a checkpoint, against counts of the tensors themselves."""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from compresskit.evaluate.contents import contents
from safetensors.torch import load_file, save_file
from scipy.stats import entropy

from compresskit.checkpoint.mask import load_masks
from compresskit.errors import InputError, MissingError
from compresskit.evaluate.heatmap import plot_remaining
from compresskit.models.kind import Contents
from tests.models import overlays, tiny
from tests.models.tiny import KINDS, Kind


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
    assert found.manifest is not None
    assert found.manifest.kind == "mask"
    assert len(found.matrices) == 12
    for matrix in found.matrices:
        weight = state[matrix.name]
        assert (matrix.shape, matrix.size) == (tuple(weight.shape), weight.numel())
        assert matrix.remaining == sum(value != 0 for row in weight.tolist() for value in row)
        assert matrix.fraction == matrix.remaining / weight.numel()
        assert matrix.dtype == "mask"


def test_the_shannon_bound_is_the_entropy_of_the_bits(overlay: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, _ = overlay
    found = contents(folder)
    masks = load_masks(folder).values()
    bits = sum(mask.bits.size * entropy([mask.bits.mean(), 1 - mask.bits.mean()], base=2) for mask in masks)
    assert found.shannon_bytes == pytest.approx(bits / 8)
    assert found.mask_bytes == len((folder / "mask.safetensors").read_bytes())


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
    assert (found.manifest, found.mask_bytes, found.shannon_bytes) == (None, None, None)
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


def test_files_and_their_bytes(overlay: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, _ = overlay
    (folder / "sub").mkdir(exist_ok=True)
    expected = {path.name: len(path.read_bytes()) for path in folder.iterdir() if path.is_file()}
    assert dict(contents(folder).files) == expected
    assert "sub" not in expected


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no checkpoint: it holds no safetensors file"):
        contents(tmp_path)


@pytest.mark.parametrize("keep", [5, -50])
def test_a_truncated_file(keep: int, tmp_path: Path) -> None:
    path = tiny.save("bert", tmp_path / "bert") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors is no whole safetensors file"):
        contents(path.parent)


@pytest.mark.parametrize(("name", "magic"), [("map.png", b"\x89PNG\r\n\x1a\n"), ("map.svg", b"<?xml")])
def test_the_plot_is_an_image(name: str, magic: bytes, overlay, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_remaining(contents(overlay[0]), tmp_path / name)
    written = (tmp_path / name).read_bytes()
    assert written.startswith(magic)
    assert len(written) > 5000


def test_a_plot_of_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="no matrices of repeated blocks to draw"):
        plot_remaining(Contents(tmp_path, None, [], [], None, None), tmp_path / "map.png")
    assert not (tmp_path / "map.png").exists()


def test_a_plot_needs_matplotlib(overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingError, match=r"pip install 'compresskit\[plot\]'"):
        plot_remaining(contents(overlay[0]), tmp_path / "map.png")
