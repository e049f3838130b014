"""Checkpoints with a file that was changed: code 3 and one line, before anything is computed with them."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from compresskit.models.registry import load
from tests.cli.conftest import Run, Trained, words_of
from tests.listing import relisted, unlisted

MASKS, WEIGHTS = "mask.safetensors", "weights.safetensors"
Change = Callable[[Path], None]


@pytest.fixture
def overlay(trained: Trained, place: Path) -> Path:
    """A copy of an overlay with learned weights, on a copy of its base."""
    for name in ("dense", "movement"):
        shutil.copytree(trained.root / name, place / name)
    return place / "movement"


def header(name: str, change: Callable[[Any], object]) -> Change:
    """Change the header of a safetensors file; its tensors' bytes stay."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        known = json.loads(content[8 : 8 + size])
        change(known)
        text = json.dumps(known).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return damage


def table(change: Callable[[dict[str, Any]], object], written: str = "") -> Change:
    """Change the table of the masks; `written` stands in the place of the text "HERE" in it."""

    def changed(known: Any) -> None:
        masks = json.loads(known["__metadata__"]["masks"])
        change(masks)
        known["__metadata__"]["masks"] = json.dumps(masks).replace('"HERE"', written)

    return header(MASKS, changed)


def entry(written: str = "", **values: Any) -> Change:
    """Change the entry of the first mask."""
    return table(lambda masks: next(iter(masks.values())).update(values), written)


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """Change the tensors of a file, whose metadata stay."""

    def damage(folder: Path) -> None:
        with safe_open(folder / name, framework="pt") as file:
            metadata = file.metadata()
        known = load_file(folder / name)
        change(known)
        save_file(known, folder / name, metadata=metadata)

    return damage


def first_mask(known: dict[str, Any]) -> str:
    return next(name for name in known if name != "__metadata__")


def as_integers(known: Any) -> None:
    known["qa_outputs.weight"]["dtype"] = "U32"


def swap(known: Any) -> None:
    """Two masks of one shape change places: words and entries."""
    table = json.loads(known["__metadata__"]["masks"])
    one, two = (name for name in sorted(table) if ".0.attention.self.key" in name or ".0.attention.self.query" in name)
    assert table[one]["shape"] == table[two]["shape"]
    table[one], table[two] = table[two], table[one]
    known[one], known[two] = known[two], known[one]
    known["__metadata__"]["masks"] = json.dumps(table)


def without_learned(known: dict[str, torch.Tensor]) -> None:
    del known["bert.encoder.layer.0.output.dense.weight"]


def write_configuration(folder: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")


# What the contents tell by themselves, in a checkpoint without a list too.
UNFIT: dict[str, tuple[Change, str]] = {
    "an emptied file of weights": (tensors(WEIGHTS, dict.clear), "lacks"),
    "an emptied table": (table(dict.clear), "does not stand in the table"),
    "no masks": (lambda f: (table(dict.clear)(f), tensors(MASKS, dict.clear)(f))[0], "holds no mask"),
    "no ones": (entry(ones=0), "for 0 kept weights"),
    "a mask left out": (tensors(MASKS, lambda t: t.pop(sorted(t)[0])), "stands in the table alone"),
    "a learned tensor left out": (
        tensors(WEIGHTS, without_learned),
        "lacks what was learned of bert.encoder.layer.0.out",
    ),
    "the head left out": (tensors(WEIGHTS, lambda t: t.pop("qa_outputs.bias")), "lacks qa_outputs.bias of its head"),
    "integers": (header(WEIGHTS, as_integers), "qa_outputs.weight is stored as U32"),
    "words of another format": (header(MASKS, lambda h: h[first_mask(h)].update(dtype="F32")), "its words are F32"),
    "a foreign tensor": (tensors(WEIGHTS, lambda t: t.update({"a.b": torch.ones(2)})), "changes a.b, which its base"),
    "a head of another shape": (
        tensors(WEIGHTS, lambda t: t.update({"qa_outputs.weight": torch.ones(3, 4)})),
        "does not fit its base's shape",
    ),
    "a block below 0": (entry(block=[-1, -1]), "numbers above 0"),
    "a block that is text": (entry(block="a"), "numbers above 0"),
    "a block that is endless": (entry("-Infinity", block="HERE"), "-Infinity is not JSON"),
    "a block of truth": (entry(block=[True, True]), "numbers above 0"),
    "a shape of nothing": (entry(shape=[0, 0]), "numbers above 0"),
    "a shape that is none": (entry(shape=None), "not iterable"),
    "a shape of another weight": (entry(shape=[1 << 20, 1 << 20]), "does not fit"),
    "ones that are no number": (entry(ones="all"), "ones is not a number of its bits"),
    "more ones than bits": (entry(ones=1 << 40), "ones is not a number of its bits"),
    "an entry that is none": (table(lambda masks: masks.update({next(iter(masks)): 3})), "not subscriptable"),
}
# What only a list tells.
UNSEEN: dict[str, Change] = {
    "two masks of one shape": header(MASKS, swap),
    "a learned value": tensors(WEIGHTS, lambda t: t["qa_outputs.bias"].add_(1)),
    "the configuration": write_configuration,
}
INSPECT_IS_NOT_TOLD = (
    "an emptied file of weights",
    "the head left out",
    "a foreign tensor",
)  # by names, which a file may have in another way


@pytest.mark.parametrize("name", [*UNFIT, *UNSEEN])
def test_a_listed_file_that_was_changed(name: str, overlay: Path, refused: Any, trained: Trained) -> None:
    damage = UNFIT[name][0] if name in UNFIT else UNSEEN[name]
    damage(overlay)
    lines = {refused(3, *words_of(verb, overlay, trained)) for verb in ("predict", "inspect")}
    (line,) = lines
    assert line.startswith(str(overlay))
    mend = '; copy or make the checkpoint again; if you changed it yourself, take "files" out of its compresskit.json'
    assert line.endswith(mend)
    assert " of its manifest" in line or " was changed (sha256 " in line


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("change", [unlisted, relisted])
def test_contents_that_do_not_fit(change: Any, name: str, overlay: Path, refused: Any, trained: Trained) -> None:
    damage, message = UNFIT[name]
    damage(overlay)
    change(overlay)
    lines = [refused(3, *words_of("predict", overlay, trained), told=change is unlisted)]
    if name not in INSPECT_IS_NOT_TOLD:
        lines.append(refused(3, "inspect", overlay))
    for line in lines:
        assert message in line
        assert any(mend in line for mend in ("copy or make it again", "it belongs to another model"))


@pytest.mark.parametrize("name", UNSEEN)
def test_without_a_list_what_fits_opens_and_is_told_so(name: str, overlay: Path, run: Run, trained: Trained) -> None:
    UNSEEN[name](unlisted(overlay))
    done = run(*words_of("predict", overlay, trained))
    assert done.code == 0
    assert done.err.splitlines() == [
        f"{overlay} lists no files in its manifest: whether its own have changed is not known; make it again for that"
    ]
    told = run("inspect", overlay, "--verify")
    assert told.code == 0
    assert f"verified    {overlay}: nothing, its files are listed nowhere" in told.out


@pytest.mark.parametrize("name", ["config.json", "mask.safetensors", "tokenizer.json"])
def test_a_lost_and_a_cut_file(name: str, overlay: Path, refused: Any, trained: Trained) -> None:
    content = (overlay / name).read_bytes()
    (overlay / name).write_bytes(content[:-1])
    line = refused(3, *words_of("predict", overlay, trained))
    assert f"{name} has {len(content) - 1:,} bytes, not the {len(content):,} of its manifest" in line
    (overlay / name).unlink()
    assert f"movement lacks {name}, which its manifest lists; copy" in refused(
        3, *words_of("predict", overlay, trained)
    )


def test_weights_that_are_not_listed(overlay: Path, refused: Any, run: Run, trained: Trained) -> None:
    (overlay / "README.md").write_text("mine")
    (overlay / "log.jsonl").unlink()
    assert run(*words_of("predict", overlay, trained)).code == 0, "neither is needed to run it"
    shutil.copy(overlay / WEIGHTS, overlay / "model.safetensors")
    line = refused(3, *words_of("predict", overlay, trained))
    assert line.endswith("movement holds model.safetensors, which its manifest does not list; move it elsewhere")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_base_that_was_changed(name: str, overlay: Path, refused: Any, run: Run, trained: Trained) -> None:
    """Alone, and below an overlay: to run it, and to verify it; `inspect` alone does not read a base."""
    content = bytearray((overlay.parent / "dense" / name).read_bytes())
    content[-20] ^= 1
    (overlay.parent / "dense" / name).write_bytes(content)
    for words in (words_of("predict", overlay.parent / "dense", trained), ["inspect", str(overlay.parent / "dense")]):
        assert f"dense/{name} was changed (sha256 " in refused(3, *words)
    assert run("inspect", overlay).code == 0
    for words in (words_of("predict", overlay, trained), ["inspect", str(overlay), "--verify"]):
        line = refused(3, *words)
        assert "was changed (sha256 " in line or "was made on a base with weights sha256" in line


def test_inspect_verifies_every_file(overlay: Path, refused: Any, run: Run) -> None:
    done = run("inspect", overlay, "--verify")
    told = [line.split() for line in done.out.splitlines() if line.startswith("verified")]
    for words, folder in zip(told, (overlay, overlay.parent / "dense"), strict=True):
        files = [path for path in folder.iterdir() if path.name != "compresskit.json"]
        size = sum(path.stat().st_size for path in files)
        assert words[-4:] == [str(len(files)), "files,", f"{size:,}", "bytes"]
    (overlay / "log.jsonl").write_text("")
    assert run("inspect", overlay).code == 0
    assert "log.jsonl has 0 bytes" in refused(3, "inspect", overlay, "--verify")


def test_inspect_needs_no_base_unless_it_verifies(overlay: Path, refused: Any, run: Run) -> None:
    shutil.rmtree(overlay.parent / "dense")
    assert run("inspect", overlay).code == 0
    assert "the base ../dense of the overlay" in refused(3, "inspect", overlay, "--verify")


def test_a_file_is_hashed_once(overlay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is listed, below an overlay, and counted among the base's weights."""
    read: list[int] = []
    really = hashlib.sha256

    class Counted:
        def __init__(self) -> None:
            self.own = really()

        def update(self, content: bytes) -> None:
            read.append(len(content))
            self.own.update(content)

        def hexdigest(self) -> str:
            return self.own.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", Counted)
    load(str(overlay), device="cpu")
    needed = [path for folder in (overlay, overlay.parent / "dense") for path in folder.iterdir()]
    names = {"compresskit.json", "log.jsonl"}
    assert sum(read) == sum(path.stat().st_size for path in needed if path.name not in names)
