"""Merged checkpoints: plain ones, that every loader opens, with the overlay's logits to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from compresskit.checkpoint import store
from compresskit.checkpoint.manifest import KindName, Manifest, read_manifest
from compresskit.checkpoint.store import sha256_weights
from compresskit.errors import InputError, UsageError
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.run import completed, run
from compresskit.models import loading
from compresskit.models.registry import load
from tests.models import overlays, tiny
from tests.models.tiny import KINDS, Kind


def merge(overlay: Path, output: Path | None = None, *, overwrite: bool = False) -> Path:
    return run(Job("merge", MergeOptions(str(overlay), output, overwrite), MergeConfig()))


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    overlays.make(tiny.save("bert", tmp_path / "base"), tmp_path / "overlay", learns=False)
    return tmp_path / "overlay"


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


def test_a_plain_checkpoint_needs_no_merging(overlay: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"base is of kind full, and merge takes mask; .* plain checkpoint already"):
        merge(tmp_path / "base", tmp_path / "plain")
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_in_use(overlay: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"plain .*--overwrite"):
        merge(overlay, tmp_path / "plain")
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["mine.txt"]
    merge(overlay, tmp_path / "plain", overwrite=True)
    assert not (tmp_path / "plain" / "mine.txt").exists()
    assert (tmp_path / "plain" / "model.safetensors").exists()


def test_the_output_stands_beside_the_overlay(overlay: Path, tmp_path: Path) -> None:
    assert merge(overlay) == tmp_path / "overlay-merged"
    assert (tmp_path / "overlay-merged" / "model.safetensors").is_file()
    job = Job("merge", MergeOptions(f"{overlay}/"), MergeConfig())
    assert completed(job).options.target == tmp_path / "overlay-merged"


def test_a_step_tells_what_was_merged(overlay: Path, tmp_path: Path) -> None:
    manifest = read_manifest(merge(overlay, tmp_path / "plain"))
    assert manifest is not None
    assert manifest.steps[-1].config == {"checkpoint": str(overlay)}


REFUSED = {"full": "plain checkpoint already", "adapter": "PEFT", "quantized": "came from", "onnx": "came from"}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_an_overlay_is_told_before_any_weight_is_read(
    kind: KindName, overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it is: neither a loader nor the file of weights is opened, and nothing is written."""

    def opened(*_: Any, **__: Any) -> Any:
        pytest.fail("weights were opened")

    for part, name in ((loading, "open_full"), (loading, "open_quantized"), (loading, "open_graph")):
        monkeypatch.setattr(part, name, opened)
    monkeypatch.setattr(AutoModelForQuestionAnswering, "from_pretrained", opened)
    monkeypatch.setattr(safetensors, "safe_open", opened)
    monkeypatch.setattr(store, "_sha256", opened)
    base = tmp_path / "base"
    Manifest("encoder", kind, None, []).write(base)
    (base / "model.safetensors").write_bytes(b"no weights at all")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"base is of kind {kind}, and merge takes mask; .*{REFUSED[kind]}"):
        merge(base, tmp_path / "plain")
    assert sorted(tmp_path.rglob("*")) == before
