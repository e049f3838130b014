"""Sealed folders: whatever is not as it was written is found, and nothing is opened that may never end."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compresskit.checkpoint.seal import SEAL, broken, check_seal, check_seals, sealed_folder
from compresskit.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with sealed_folder(tmp_path / "folder") as staging:
        (staging / "a.bin").write_bytes(bytes(range(256)))
        (staging / "b.json").write_text("{}")
    return tmp_path / "folder"


def test_what_is_as_it_was(folder: Path) -> None:
    assert broken(folder) is None
    check_seal(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[17] ^= 1
    path.write_bytes(content)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flip": flip,
    "cut": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "hole": lambda path: os.truncate(path, 1 << 40),
    "missing": Path.unlink,
    "pipe": pipe,
    "link": link,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["a.bin", SEAL])
def test_damage_is_found(name: str, damage: Callable[[Path], object], folder: Path) -> None:
    damage(folder / name)
    assert broken(folder) in (name, "a.moved", "seal.moved")
    with pytest.raises(InputError, match=rf"not as the run wrote it; remove {folder} to go on .* --overwrite"):
        check_seal(folder)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "{", "[" * 100_000, '{"a.bin": 3}', '{"a.bin": [1e999, ""]}', '{"a.bin": ["9", "x"]}', "\udcff"],
    ids=lambda text: ascii(text)[:20],
)
def test_a_seal_that_is_none(content: str, folder: Path) -> None:
    (folder / SEAL).write_bytes(content.encode(errors="surrogateescape"))
    assert broken(folder) is not None


def test_files_that_came_later_or_were_swapped(folder: Path) -> None:
    (folder / "scaler.pt").write_bytes(b"a pickle")
    assert broken(folder) == "scaler.pt"
    (folder / "scaler.pt").unlink()
    assert broken(folder) is None
    sealed = json.loads((folder / SEAL).read_text())
    sealed["a.bin"], sealed["b.json"] = sealed["b.json"], sealed["a.bin"]
    (folder / SEAL).write_text(json.dumps(sealed))
    assert broken(folder) == "a.bin"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert broken(tmp_path / "nowhere") == SEAL


def test_what_did_not_end_well_has_no_name(tmp_path: Path) -> None:
    def fail() -> None:
        with sealed_folder(tmp_path / "folder") as staging:
            (staging / "a.bin").write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not (tmp_path / "folder").exists()
    with sealed_folder(tmp_path / "folder") as staging:
        (staging / "b.json").write_text("{}")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"b.json", SEAL}


def test_all_folders_of_a_workspace(folder: Path) -> None:
    check_seals(folder.parent / "nowhere")
    (folder.parent / "other.writing").mkdir()
    (folder.parent / "log.jsonl").touch()
    check_seals(folder.parent)
    flip(folder / "a.bin")
    with pytest.raises(InputError, match=r"a\.bin is not as the run wrote it"):
        check_seals(folder.parent)
