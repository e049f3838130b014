"""Merged checkpoints: plain ones, that every loader opens, with the overlay's logits to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.store import sha256_weights
from compresskit.errors import InputError, UsageError
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.run import run
from compresskit.models import registry
from compresskit.models.device import DTYPES
from compresskit.models.registry import load
from tests.models import overlays, tiny
from tests.models.tiny import KINDS, Kind


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    overlays.make(tiny.save("bert", tmp_path / "base"), tmp_path / "overlay", learns=False)
    return tmp_path / "overlay"


def merge(overlay: Path, output: Path, **more: Any) -> Path:
    return run(Job("merge", MergeOptions(str(overlay), output, **more), MergeConfig()))


@torch.no_grad()
@pytest.mark.parametrize("learns", [False, True], ids=["scores only", "learned weights"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_the_overlays_to_the_last_bit(kind: Kind, learns: bool, tmp_path: Path) -> None:
    expected = overlays.make(tiny.save(kind, tmp_path / "base"), tmp_path / "overlay", learns=learns)
    assert merge(tmp_path / "overlay", tmp_path / "out" / "plain") == tmp_path / "out" / "plain"
    merged = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out" / "plain")
    state = merged.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    ids = torch.randint(5, 30, (4, 24), generator=torch.Generator().manual_seed(5))
    theirs, ours = merged.eval()(input_ids=ids), load(str(tmp_path / "overlay"), device="cpu").model(input_ids=ids)
    assert torch.equal(theirs.start_logits, ours.start_logits)
    assert torch.equal(theirs.end_logits, ours.end_logits)


def test_the_merged_folder_stands_alone(overlay: Path, tmp_path: Path) -> None:
    merge(overlay, tmp_path / "plain")
    own = AutoTokenizer.from_pretrained(overlay)
    for other in ("base", "overlay"):
        (tmp_path / other).rename(tmp_path / f"away-{other}")
    loaded = load(str(tmp_path / "plain"), device="cpu")
    assert (loaded.base, loaded.missing_head) == (None, False)
    assert {path.parent for path in loaded.files} == {tmp_path / "plain"}
    text = "a bad head?", "jade face. 日"
    assert AutoTokenizer.from_pretrained(tmp_path / "plain")(*text).input_ids == own(*text).input_ids


def test_the_manifest_tells_where_it_comes_from(overlay: Path, tmp_path: Path) -> None:
    merge(overlay, tmp_path / "plain")
    manifest = read_manifest(tmp_path / "plain")
    assert manifest is not None
    assert manifest.base is not None
    assert (manifest.family, manifest.kind, manifest.method) == ("encoder", "full", "merge")
    assert (manifest.base.ref, manifest.base.sha256) == ("../overlay", sha256_weights(overlay))


def test_a_plain_checkpoint_needs_no_merging(overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told from its files, before any weights are read."""

    def opened(*_: Any) -> Any:
        raise AssertionError("the weights were opened")

    monkeypatch.setattr(registry, "open_source", opened)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"base is of kind full.*it is a plain checkpoint already") as caught:
        merge(tmp_path / "base", tmp_path / "plain")
    assert caught.value.exit_code == 3
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_in_use(overlay: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"plain is not empty.*--overwrite"):
        merge(overlay, tmp_path / "plain")
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["mine.txt"]
    with pytest.raises(UsageError, match="no checkpoint, which alone --overwrite replaces"):
        merge(overlay, tmp_path / "plain", overwrite=True)
    (tmp_path / "plain" / "config.json").write_text("{}")
    merge(overlay, tmp_path / "plain", overwrite=True)
    assert not (tmp_path / "plain" / "mine.txt").exists()
    assert (tmp_path / "plain" / "model.safetensors").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_merged_weights_in_half_the_bytes(dtype: str, overlay: Path, tmp_path: Path) -> None:
    whole = load_file(merge(overlay, tmp_path / "whole") / "model.safetensors")
    out = run(Job("merge", MergeOptions(str(overlay), tmp_path / "half"), MergeConfig(dtype)))  # type: ignore[arg-type]
    half = load_file(out / "model.safetensors")
    assert {name: each.dtype for name, each in half.items()} == dict.fromkeys(whole, DTYPES[dtype])
    assert all(torch.equal(half[name], each.to(DTYPES[dtype])) for name, each in whole.items())
    assert load(str(out), device="cpu").manifest.steps[-1].config["dtype"] == dtype  # type: ignore[union-attr]
