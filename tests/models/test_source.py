"""From what the user types to the files of a checkpoint: names, folders, bases, and their fingerprint."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from compresskit.checkpoint.store import read_json, sha256_weights, write_json
from compresskit.errors import CompresskitError, InputError, MissingError, UsageError
from compresskit.models import builtin, source
from compresskit.models.kinds import base_source, checkpoint_files, fingerprint
from compresskit.models.source import BUILT_IN, Source, base_of, known_aliases, resolve, resolve_base
from tests.models import overlays, tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint `base`, the masks `mask` on it, and `adapter`, of which only the names count."""
    root = tmp_path_factory.mktemp("made")
    base = tiny.save("bert", root / "base")
    overlays.make(base, root / "mask", learns=False)
    adapter = root / "adapter"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "../base"})
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    return root


@pytest.fixture
def room(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` to change; from here its names lead nowhere else."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, tmp_path / "room"))


def test_it_needs_no_torch() -> None:
    code = "import sys, compresskit.models.source; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "huggingface_hub"} & set(shown.split())


# Names.


def test_every_built_in_name_is_built() -> None:
    assert set(builtin.BUILDERS) == set(BUILT_IN)
    found = resolve("demo/bert")
    assert found.untrained
    assert (found.path / "config.json").is_file()


def test_an_alias_is_the_hubs_id(monkeypatch: pytest.MonkeyPatch, room: Path) -> None:
    asked = []
    snapshot = (room / "base").rename(room / "0123abcd")

    def snapshot_download(hub_id: str, revision: str | None = None, **_: Any) -> str:
        asked.append((hub_id, revision))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("bert").revision == "0123abcd"
    assert resolve("someone/model").ref == "someone/model"
    assert asked == [("google-bert/bert-base-uncased", None), ("someone/model", None)]
    base = base_of(resolve("bert"), Path("out"))
    assert (base.ref, base.revision) == ("google-bert/bert-base-uncased", "0123abcd")
    assert base.sha256 == sha256_weights(snapshot)
    assert resolve_base(Path("out"), base).path == snapshot
    assert asked[-1] == (base.ref, "0123abcd"), "an overlay's base is that of its own revision"


# What is not there.


@pytest.mark.parametrize(
    ("ref", "near"),
    [
        ("brt", "bert"),
        ("Bert", "bert"),
        ("demo/brt", "demo/bert"),
        ("demo/bret", "demo/bert"),
        ("demobert", "demo/bert"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(ref: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"^unknown model '{ref}'; did you mean {near}\?$"):
        resolve(ref)


def test_what_the_hub_does_not_give_may_be_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(hub_id: str, revision: str | None) -> Path:
        raise MissingError(f"no {hub_id}")

    monkeypatch.setattr(source, "download", unreachable)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "dense").mkdir(parents=True)
    for ref, near in (("rnus/dense", "runs/dense"), ("dmeo/bert", "demo/bert")):
        with pytest.raises(MissingError, match=rf"^no {ref}; or did you mean {near}\?$"):
            resolve(ref)
    for ref in ("someone/model", "bert"):
        with pytest.raises(MissingError, match=r"^no [\w-]+/[\w-]+$"):
            resolve(ref)


@pytest.mark.parametrize("ref", ["a b/c", "a/..b"])
def test_a_name_that_the_hub_cannot_have(ref: str) -> None:
    with pytest.raises(InputError, match=f"^there is no folder {ref}, and no model of the Hub can be called so$"):
        resolve(ref)


@pytest.mark.parametrize("ref", ["zzzzzz", "demo/zzzzzzzzzzzz"])
def test_a_name_like_none_lists_all(ref: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(ref)
    assert all(alias in str(caught.value) for alias in known_aliases())
    assert "a Hub id has the form owner/name" in str(caught.value)


@pytest.mark.parametrize("ref", ["./nowhere", "../no/where", "/no/where", "~/nowhere", "a/b/c", "."])
def test_a_path_is_a_path(ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if ref == ".":
        assert resolve(ref) == Source(".", Path("."))
        return
    with pytest.raises(InputError, match=f"^there is no folder {ref}; check the path$"):
        resolve(ref)


def test_without_a_hub_the_mend_is_named() -> None:
    """The suite runs with HF_HUB_OFFLINE=1."""
    with pytest.raises(MissingError) as caught:
        resolve("nobody/nothing-here")
    message = str(caught.value)
    assert message.startswith("there is no folder nobody/nothing-here here, and the Hub cannot be reached")
    assert "`hf download nobody/nothing-here --local-dir DIR`" in message
    assert "demo/bert" in message
    assert "\n" not in message


RESPONSE: Any = SimpleNamespace(headers={}, request=None)  # the Hub's client keeps no more of it


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            RepositoryNotFoundError("none", response=RESPONSE),
            InputError,
            "there is no folder a/b here, and the Hub has no such model",
        ),
        (HfHubHTTPError("500", response=RESPONSE), MissingError, "hf download a/b"),
        (ConnectionError("no route"), MissingError, "hf download a/b"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_the_hub_says(
    error: Exception, kind: type[CompresskitError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(kind, match=words):
        resolve("a/b")


def test_a_file_is_no_checkpoint(made: Path) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors is a file; give the folder"):
        resolve(str(made / "base" / "model.safetensors"))


# Bases.


def adapter_on(room: Path, base: str | None, **changes: Any) -> Source:
    config = {"peft_type": "LORA", "base_model_name_or_path": base, **changes}
    write_json(room / "adapter" / "adapter_config.json", config)
    return Source("adapter", room / "adapter")


def test_the_base_of_an_adapter_is_found_from_everywhere(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = (room / "base").resolve()
    monkeypatch.chdir(room)
    for name in (str(base), "base", "./base"):  # as PEFT finds it
        found = base_source(adapter_on(room, name))
        assert found is not None
        assert found.path.resolve() == base
    monkeypatch.chdir("/")
    found = base_source(adapter_on(room, "../base"))
    assert found is not None
    assert found.path.resolve() == base


def test_an_adapters_base_on_the_hub_has_a_revision(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(hub_id: str, revision: str | None = None, **_: Any) -> str:
        asked.append((hub_id, revision))
        return str(room / "base")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found = base_source(adapter_on(room, "someone/model", revision="abc"))
    assert asked == [("someone/model", "abc")]
    assert found is not None
    assert found.path == room / "base"


def test_a_plain_checkpoint_has_no_base(made: Path) -> None:
    assert base_source(Source("base", made / "base")) is None


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        (None, InputError, r"adapter_config\.json names no base; write its folder or Hub id there"),
        ("/no/where", InputError, "the base /no/where of the adapter .* is not there; put it there, or write its"),
        ("a/b/c", InputError, "the base a/b/c of the adapter .* is not there"),
        ("a b", InputError, "the base a b of the adapter .* is not there"),
        (
            "a/b",
            MissingError,
            "the base a/b of the adapter .* the Hub cannot be reached; .*base_model_name_or_path",
        ),
        ("bert-base-uncased", MissingError, "the base bert-base-uncased of the adapter .*, and the Hub cannot"),
        (
            "../adapter",
            InputError,
            "adapter stands on .* of kind adapter; .*full or mask or quantized; merge it",
        ),
    ],
)
def test_an_adapter_without_its_base(name: str | None, kind: type[CompresskitError], words: str, room: Path) -> None:
    """The suite runs with HF_HUB_OFFLINE=1."""
    adapter_on(room, name)
    for ask in (lambda ref: checkpoint_files(resolve(ref)), fingerprint):
        with pytest.raises(kind, match=words) as caught:
            ask(str(room / "adapter"))
        assert "\n" not in str(caught.value)


def test_masks_lie_on_no_masks(room: Path) -> None:
    """Two overlays that name each other would be searched for ever."""
    shutil.copytree(room / "mask", room / "other")
    for one, other in (("mask", "other"), ("other", "mask")):
        manifest = read_json(room / one / "compresskit.json")
        manifest["base"] |= {"ref": f"../{other}", "sha256": sha256_weights(room / other)}
        write_json(room / one / "compresskit.json", manifest)
    with pytest.raises(InputError, match=r"mask stands on .* of kind mask; .* full; .*compresskit merge .*other"):
        fingerprint(str(room / "mask"))


def test_an_adapter_may_lie_on_masks(room: Path) -> None:
    files = checkpoint_files(adapter_on(room, "../mask"))
    found = {os.path.relpath(path.resolve(), room.resolve()) for path in files}
    assert {name.split("/")[0] for name in found} == {"adapter", "mask", "base"}


# Files.


def test_what_the_trainer_keeps_is_not_needed(room: Path) -> None:
    needed = checkpoint_files(Source("base", room / "base"))
    assert sorted(path.name for path in needed) == sorted(path.name for path in (room / "base").iterdir())
    (room / "base" / "checkpoint-5").mkdir()
    odd = ("log.jsonl", ".gitattributes", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin")
    for name in (*odd, "trainer_state.json"):
        (room / "base" / name).write_text("x")
    assert checkpoint_files(Source("base", room / "base")) == needed


# The fingerprint.


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("ref", "changed"),
    [
        *(("base", f"base/{name}") for name in ("config.json", "model.safetensors", "tokenizer.json")),
        *(("adapter", f"{name}") for name in ("adapter/adapter_model.safetensors", "base/config.json")),
        *(("adapter", f"base/{name}") for name in ("model.safetensors", "tokenizer.json")),
        *(("mask", f"mask/{name}") for name in ("mask.safetensors", "weights.safetensors", "config.json")),
        ("mask", "base/config.json"),
    ],
)
def test_any_byte_changes_the_fingerprint(ref: str, changed: str, room: Path) -> None:
    before = fingerprint(str(room / ref))
    assert len(before) == 64
    change_byte(room / changed)
    assert fingerprint(str(room / ref)) != before


def test_other_weights_of_a_base_are_an_error(room: Path) -> None:
    change_byte(room / "base" / "model.safetensors")
    with pytest.raises(InputError, match="was made on a base with weights sha256"):
        fingerprint(str(room / "mask"))


def rename_file(room: Path) -> None:
    (room / "base" / "tokenizer.json").rename(room / "base" / "tokenizer2.json")


def swap(room: Path) -> None:
    one, other, aside = (room / "base" / name for name in ("config.json", "tokenizer_config.json", "aside"))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def add(room: Path) -> None:
    (room / "base" / "vocab.txt").write_text("x")


@pytest.mark.parametrize("change", [rename_file, swap, add])
def test_names_count(change: Callable[[Path], None], room: Path) -> None:
    before = fingerprint(str(room / "base"))
    change(room)
    assert fingerprint(str(room / "base")) != before


@pytest.mark.parametrize("ref", ["base", "mask", "adapter"])
def test_what_does_not_count(ref: str, room: Path) -> None:
    before = fingerprint(str(room / ref))
    (room / ref / "log.jsonl").write_text("{}")
    for path in (room / ref).iterdir():
        os.utime(path, (1, 1))
    moved = room.rename(room.with_name("elsewhere"))
    assert fingerprint(str(moved / ref)) == before
    if ref == "base":
        assert fingerprint(str((moved / ref).rename(moved / "other-name"))) == before
    with pytest.raises(InputError, match="there is no folder"):
        fingerprint(str(room / ref))


# Paths that are mistyped.


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("runs/dnese", "there is no folder runs/dnese; did you mean runs/dense?"),
        ("runs/zzz", "there is no folder runs/zzz (runs is a folder here, so no model of the Hub is meant); check"),
        ("./rnus/dense", "there is no folder ./rnus/dense; did you mean runs/dense?"),
        ("a/b/c", "there is no folder a/b/c; check the path"),
        ("answrs.json", "there is no file answrs.json; did you mean answers.json?"),
        ("runs/answrs.jsonl", "there is no file runs/answrs.jsonl; check the path"),
    ],
)
def test_a_mistyped_path_is_no_hub_id(ref: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    (tmp_path / "runs" / "dense").mkdir(parents=True)
    (tmp_path / "answers.json").touch()
    with pytest.raises(InputError) as caught:
        resolve(ref)
    assert str(caught.value).startswith(told)


def test_a_folder_here_is_no_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dense").mkdir()
    with pytest.raises(UsageError, match=r"unknown model 'dnese'; did you mean dense\?"):
        resolve("dnese")
