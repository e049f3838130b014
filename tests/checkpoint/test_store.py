import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from compresskit.checkpoint import store
from compresskit.errors import InputError, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_json_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    store.write_json(path, {"word": "é", "n": 1})
    store.write_json(path, {"word": "ü"})
    assert store.read_json(path) == {"word": "ü"}
    assert "ü" in path.read_text(encoding="utf-8")
    assert names(tmp_path) == ["a.json"]


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    store.write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.json"
    store.write_json(path, "old")

    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"os.{step}", full)
    with pytest.raises(OSError, match="No space left"):
        store.write_json(path, "new")
    monkeypatch.undo()
    assert store.read_json(path) == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("text", ["NaN", '{"a": [-Infinity]}', "1e999"])
def test_what_is_not_finite_is_not_read_either(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.json is not valid JSON"):
        store.read_json(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, number: float, dtype: torch.dtype) -> None:
    good = {"a": torch.ones(3, dtype=dtype), "b": torch.tensor([1, 2]), "c": torch.zeros(0)}
    bad = {**good, "head.bias": torch.tensor([1.0, number, 2.0]).to(dtype)}

    def write(name: str, tensors: dict[str, torch.Tensor]) -> None:
        with store.staged_folder(tmp_path / name) as folder:
            store.save_tensors(folder / "weights.safetensors", tensors)

    def finish(tensors: dict[str, torch.Tensor]) -> None:
        staging = store.staging_beside(tmp_path / "out")
        store.save_tensors(staging / "weights.safetensors", tensors)
        store.Workspace(tmp_path / "out").finish(staging)

    write("good", good)
    refusal = r"out is not written: its tensor head\.bias would not be finite; "
    with pytest.raises(InputError, match=refusal):
        write("out", bad)
    with pytest.raises(InputError, match=refusal):
        finish(bad)
    assert not (tmp_path / "out").exists()


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "a.json", float("nan"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_broken_json_is_named(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.json is not valid JSON"):
        store.read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json does not exist"):
        store.read_json(tmp_path / "b.json")


def test_hashes(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)  # more than one chunk
    (tmp_path / "a.safetensors").write_bytes(content)
    one = hashlib.sha256(content).hexdigest()
    assert store.sha256_weights(tmp_path) == store.sha256_file(tmp_path / "a.safetensors") == one
    (tmp_path / "b.safetensors").write_bytes(b"b")
    two = hashlib.sha256(b"b").hexdigest()
    listing = f"{one} a.safetensors\n{two} b.safetensors\n"
    assert store.sha256_weights(tmp_path) == hashlib.sha256(listing.encode()).hexdigest()


def test_no_weights(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="holds no safetensors"):
        store.sha256_weights(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_tensors_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(4, 6).mul(10).to(dtype)
    store.save_tensors(tmp_path / "t", {"a": tensor.T, "scalar": tensor[0, 0]})
    found = store.load_tensors(tmp_path / "t")
    assert torch.equal(found["a"], tensor.T)
    assert torch.equal(found["scalar"], tensor[0, 0])
    assert store.read_safetensors_metadata(tmp_path / "t") == {"format": "pt"}


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path) -> None:
    """Whatever order the metadata were given in; the library's own is another in nearly every call."""
    table = {
        "schema": "it/1",
        "weights": '{"a": "b"}',
        "text": 'ä \\ " \n \x1f \x7f \u2028',
        "format": "pt",
        "empty": "",
    }
    tensors = {"w": torch.arange(6.0), "b": torch.ones(2, dtype=torch.int8)}
    written = set()
    for number in range(6):
        names = sorted(table, reverse=bool(number % 2))
        store.save_tensors(tmp_path / "t.safetensors", tensors, {name: table[name] for name in names})
        assert store.read_safetensors_metadata(tmp_path / "t.safetensors") == table
        assert all(
            tensor.equal(tensors[name]) for name, tensor in store.load_tensors(tmp_path / "t.safetensors").items()
        )
        store.save_arrays(tmp_path / "a.safetensors", {"w": np.arange(6)}, {name: table[name] for name in names})
        written.add((tmp_path / "t.safetensors").read_bytes() + (tmp_path / "a.safetensors").read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("cut", [0, 4, 20, 90, 150])
def test_truncated_tensors(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "t.safetensors"
    store.save_arrays(path, {"a": np.arange(20, dtype=np.float32)})
    path.write_bytes(path.read_bytes()[:cut])
    for read in (store.load_tensors, store.read_safetensors_metadata):
        with pytest.raises(InputError, match=r"t\.safetensors is not a whole safetensors file"):
            read(path)
    with pytest.raises(InputError, match="does not exist"):
        store.load_tensors(tmp_path / "none")


@pytest.mark.parametrize("package", ["numpy", "torch"])
def test_a_full_disk_under_safetensors_is_an_oserror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(f"safetensors.{package}.save_file", full)
    save: Any = {"numpy": store.save_arrays, "torch": store.save_tensors}[package]
    value = {"numpy": np.zeros(1), "torch": torch.zeros(1)}[package]
    with pytest.raises(OSError, match="No space left") as caught:
        save(tmp_path / "t", {"a": value})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "t")


def test_other_safetensors_errors_stay(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError):
        store.save_arrays(tmp_path / "no" / "folder" / "t", {"a": np.zeros(1)})


def test_a_staged_folder_appears_at_the_end(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    with store.staged_folder(output) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("a")
        assert not output.exists()
    assert (output / "sub" / "a").read_text() == "a"
    assert names(output.parent) == ["out"]
    assert stat.S_IMODE(output.stat().st_mode) == stat.S_IMODE((tmp_path / "deep").stat().st_mode)


def test_a_finished_folder_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    with store.staged_folder(tmp_path / "out") as folder:
        store.save_tensors(folder / "model.safetensors", {"w": torch.ones(2)})
        (folder / "private").touch(0o600)
    other = tmp_path / "other"
    other.touch()
    assert {path.stat().st_mode for path in (tmp_path / "out").iterdir()} == {other.stat().st_mode}


def test_reserved_room_is_there(tmp_path: Path) -> None:
    store.reserve(tmp_path / "map", 100_000)
    found = (tmp_path / "map").stat()
    assert found.st_size == 100_000
    assert found.st_blocks * 512 >= 100_000


def test_no_room_to_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fails)
    with pytest.raises(OSError, match="No space left") as caught:
        store.reserve(tmp_path / "map", 10)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "map"))


def fill_and_fail(folder: Path, error: BaseException) -> NoReturn:
    (folder / "new").write_text("new")
    raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), InputError("bad")])
def test_an_error_in_a_staged_folder_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), store.staged_folder(tmp_path / "out") as folder:
        fill_and_fail(folder, error)
    assert names(tmp_path) == []


def test_an_error_while_overwriting_leaves_the_old_folder(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "config.json").write_text("old")
    with pytest.raises(InputError), store.staged_folder(output, overwrite=True) as folder:
        fill_and_fail(folder, InputError("bad"))
    assert names(tmp_path) == ["out"]
    assert names(output) == ["config.json"]


def test_a_kill_in_a_staged_folder_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import pathlib, time\nfrom compresskit.checkpoint.store import staged_folder\n"
        f"with staged_folder(pathlib.Path({str(tmp_path / 'out')!r})) as folder:\n"
        "    (folder / 'a').write_text('a')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    limit = time.monotonic() + 10
    while names(tmp_path) and time.monotonic() < limit:
        time.sleep(0.02)
    assert names(tmp_path) == []


def test_a_taken_output(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "config.json").write_text("old")
    with pytest.raises(UsageError, match="not empty; pass --overwrite"), store.staged_folder(output):
        pass
    with store.staged_folder(output, overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert names(output) == ["new"]
    assert names(tmp_path) == ["out"]


def test_publishing_keeps_the_old_folder_until_the_new_one_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is reported by fsync at the latest; nothing may have moved by then."""
    output, staging = tmp_path / "out", tmp_path / "staging"
    for folder in (output, staging):
        folder.mkdir()
        (folder / folder.name).write_text("x")

    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="full"):
        store.publish(staging, output)
    assert names(output) == ["out"]


def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    output = tmp_path / "out"
    code = (
        "import pathlib, time\nfrom compresskit.checkpoint.store import Workspace\n"
        f"with Workspace(pathlib.Path({str(output)!r})).claim({{'lr': 1}}, resume=False, overwrite=False) as work:\n"
        "    (work / 'state').write_text('s')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    workspace = store.Workspace(output)
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        claim = workspace.claim({"lr": 1}, resume=resume, overwrite=overwrite)
        with pytest.raises(UsageError, match="another run is working in"), claim:
            pass
    assert json.loads((tmp_path / "out.partial" / "run.json").read_text()) == {"lr": 1}
    process.kill()
    process.wait()
    time.sleep(0.05)
    with workspace.claim({"lr": 1}, resume=True, overwrite=False) as work:
        assert (work / "state").read_text() == "s"
