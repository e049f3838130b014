"""Temporary folders, whichever way the process ends that made them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compresskit.checkpoint.temporary import new_folder, temporary_folder

# Makes two folders and renames one, tells when it has, and goes on as the words say.
PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
from compresskit.checkpoint.temporary import new_folder
root = Path(sys.argv[1])
for name in ("kept", "left"):
    folder = new_folder(root, ".out.")
    (folder / "file").write_text("x")
    if name == "kept":
        folder.rename(root / name)
if os.fork() == 0:
    os._exit(0)
print("made", flush=True)
exec(sys.argv[2])
"""


def gone(folder: Path) -> bool:
    """Whether only what was renamed is left, within a few seconds."""
    for _ in range(100):
        if [path.name for path in folder.iterdir()] == ["kept"]:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("last", "number"),
    [
        ("time.sleep(60)", signal.SIGKILL),
        ("time.sleep(60)", signal.SIGTERM),
        ("os.abort()", None),
        ("os._exit(3)", None),
        ("raise SystemExit(0)", None),
    ],
)
def test_what_a_process_leaves_goes_with_it(last: str, number: int | None, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), last]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        if number is not None:
            assert len(list(tmp_path.iterdir())) == 2  # not while it runs, nor with a fork of it
            process.send_signal(number)
    assert gone(tmp_path)
    assert (tmp_path / "kept" / "file").read_text() == "x"


def test_a_folder_for_a_block(tmp_path: Path) -> None:
    def fill_and_fail() -> None:
        with temporary_folder(tmp_path) as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "sub").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fill_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_where_no_folder_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        new_folder(tmp_path / "nowhere")
