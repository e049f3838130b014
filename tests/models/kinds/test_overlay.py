"""Mask overlays: what they stand for, and where they find their base."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.mask import Mask, load_masks
from compresskit.checkpoint.store import save_tensors, sha256_weights
from compresskit.errors import InputError
from compresskit.models.kinds.overlay import apply_overlay, save_overlay
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import resolve
from tests.models import overlays, tiny
from tests.models.tiny import KINDS, Kind


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.save("bert", tmp_path / "here" / "base")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.parametrize("learns", [False, True], ids=["scores only", "learned weights"])
@pytest.mark.parametrize("block", [(1, 1), (4, 8)], ids=["weights", "blocks"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_overlay_is_naive_masking(kind: Kind, block: tuple[int, int], learns: bool, tmp_path: Path) -> None:
    base = tiny.save(kind, tmp_path / "base")
    expected = overlays.make(base, tmp_path / "overlay", learns=learns, block=block)
    loaded = load(str(tmp_path / "overlay"), device="cpu")
    assert equal(loaded.model.state_dict(), expected)
    before = load(str(base), device="cpu").model.state_dict()
    changed = {name for name, value in expected.items() if not torch.equal(value, before[name])}
    assert len(changed) == 2 * 6 + 2, "six matrices in two blocks, and the head"
    assert (loaded.path, loaded.base) == (tmp_path / "overlay", tmp_path / "overlay" / "../base")
    assert not loaded.missing_head


def test_only_kept_values_are_stored(base: Path, tmp_path: Path) -> None:
    expected = overlays.make(base, tmp_path / "overlay", learns=True)
    stored = load_file(tmp_path / "overlay" / "weights.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    assert stored[name].shape == (int(torch.count_nonzero(expected[name])),)
    assert stored["qa_outputs.weight"].shape == (2, 16)
    frozen = overlays.make(base, tmp_path / "frozen", learns=False)
    assert set(load_file(tmp_path / "frozen" / "weights.safetensors")) == {"qa_outputs.weight", "qa_outputs.bias"}
    assert torch.count_nonzero(frozen[name])


def test_a_masked_zero_is_no_negative_zero_and_a_nan_does_not_stay(base: Path, tmp_path: Path) -> None:
    """`W * M` of a NaN or of an infinite weight would not be 0."""
    loaded = load_trainable(resolve(str(base)))
    name = "bert.encoder.layer.0.output.dense.weight"
    weight = loaded.model.get_parameter(name)
    with torch.no_grad():
        weight[0, 0], weight[0, 1], weight[0, 2] = float("nan"), float("inf"), -1.0
    save_overlay(tmp_path, {name: Mask(np.zeros(weight.shape, dtype=np.bool_))}, {})
    apply_overlay(loaded.model, tmp_path)
    assert not bool(torch.signbit(loaded.model.get_parameter(name)).any())
    assert torch.count_nonzero(loaded.model.get_parameter(name)) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_formats_are_rounded_after_masking(dtype: str, base: Path, tmp_path: Path) -> None:
    expected = overlays.make(base, tmp_path / "overlay", learns=True)
    loaded = load(str(tmp_path / "overlay"), device="cpu", dtype=dtype)
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], value.to(state[name].dtype)) for name, value in expected.items())
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}


def test_what_a_user_needs_is_the_overlay_and_its_base(base: Path, tmp_path: Path) -> None:
    overlays.make(base, tmp_path / "overlay", learns=False)
    files = load(str(tmp_path / "overlay"), device="cpu").files
    names = sorted(os.path.relpath(path.resolve(), tmp_path) for path in files)
    here = [path for folder in (tmp_path / "overlay", base) for path in folder.iterdir()]
    assert names == sorted(os.path.relpath(path, tmp_path) for path in here)


# The base.


def test_a_base_with_other_weights_is_refused_with_both_hashes(base: Path, tmp_path: Path) -> None:
    overlays.make(base, tmp_path / "overlay", learns=False)
    own = sha256_weights(base)
    tiny.save("bert", base, seed=1)
    other = sha256_weights(base)
    assert own != other
    with pytest.raises(InputError) as caught:
        load(str(tmp_path / "overlay"))
    assert own in str(caught.value)
    assert other in str(caught.value)
    assert "give it its own base" in str(caught.value)


def test_an_overlay_and_its_base_move_together(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = overlays.make(base, tmp_path / "here" / "pruned" / "overlay", learns=False)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    for ref in ("pruned/overlay", str(tmp_path / "there" / "pruned" / "overlay"), "./pruned/../pruned/overlay"):
        assert equal(load(ref, device="cpu").model.state_dict(), expected)


def test_an_overlay_made_from_a_relative_path(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "here")
    expected = overlays.make(Path("base"), Path("made/overlay"), learns=False)
    monkeypatch.chdir(tmp_path)
    assert equal(load("here/made/overlay", device="cpu").model.state_dict(), expected)


def test_an_overlay_without_its_base(base: Path, tmp_path: Path) -> None:
    overlays.make(base, tmp_path / "overlay", learns=False)
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match=r"the base \.\./here/base of the overlay .*/overlay is not there; put it back"
    ):
        load(str(tmp_path / "overlay"))


def test_an_overlay_that_names_no_base(base: Path, tmp_path: Path) -> None:
    overlays.make(base, tmp_path / "overlay", learns=False)
    path = tmp_path / "overlay" / "compresskit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base": None}))
    with pytest.raises(InputError, match="names no base; it is damaged"):
        load(str(tmp_path / "overlay"))


# What does not fit.


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("bert.encoder.layer.7.output.dense.weight", (16, 32), r"changes bert\.encoder\.layer\.7.* does not have"),
        ("bert.encoder.layer.0.output.dense.weight", (1, 32), r"does not fit its base's shape \(16, 32\)"),
        ("bert.encoder.layer.0.output.dense.weight", (16, 16), r"does not fit its base's shape \(16, 32\)"),
    ],
)
@pytest.mark.parametrize("learns", [False, True])
def test_an_overlay_of_another_model(name, shape, message: str, learns: bool, base: Path, tmp_path: Path) -> None:
    overlays.make(base, tmp_path / "overlay", learns=False)
    learned = {name: torch.ones(shape)} if learns else {}
    save_overlay(tmp_path / "overlay", {name: Mask(np.ones(shape, dtype=np.bool_))}, learned)
    with pytest.raises(InputError, match=message) as caught:
        load(str(tmp_path / "overlay"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 16), (1, 16), (16, 2)])
def test_a_head_of_another_shape(shape: tuple[int, int], base: Path, tmp_path: Path) -> None:
    overlays.make(base, tmp_path / "overlay", learns=False)
    masks = load_masks(tmp_path / "overlay")
    save_overlay(tmp_path / "overlay", masks, {"qa_outputs.weight": torch.ones(shape)})
    with pytest.raises(InputError, match=r"qa_outputs\.weight does not fit its base's shape \(2, 16\)"):
        load(str(tmp_path / "overlay"))


@pytest.mark.parametrize("values", [3, 16 * 32])
def test_learned_values_that_do_not_fill_the_mask(values: int, base: Path, tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"
    overlays.make(base, tmp_path / "overlay", learns=False)
    save_tensors(tmp_path / "overlay" / "weights.safetensors", {name: torch.ones(values)})
    with pytest.raises(InputError, match="does not fit"):
        load(str(tmp_path / "overlay"))


@pytest.mark.parametrize("name", ["mask.safetensors", "weights.safetensors"])
def test_truncated_files(name: str, base: Path, tmp_path: Path) -> None:
    overlays.make(base, tmp_path / "overlay", learns=True)
    path = tmp_path / "overlay" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=rf"{name} is not a whole safetensors file"):
        load(str(tmp_path / "overlay"))
    path.unlink()
    with pytest.raises(InputError, match=rf"{name} does not exist"):
        load(str(tmp_path / "overlay"))


def test_the_base_itself_stays_as_it_is(base: Path, tmp_path: Path) -> None:
    before = (base / "model.safetensors").read_bytes()
    overlays.make(base, tmp_path / "overlay", learns=True)
    load(str(tmp_path / "overlay"))
    assert (base / "model.safetensors").read_bytes() == before
    manifest = read_manifest(tmp_path / "overlay")
    assert manifest is not None
    assert manifest.base is not None
    assert (manifest.base.ref, manifest.base.sha256) == ("../here/base", sha256_weights(base))
