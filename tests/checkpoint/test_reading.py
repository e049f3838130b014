"""Files that a person gives: what is not the file itself."""

from pathlib import Path

import pytest

from compresskit.checkpoint.reading import opened
from compresskit.data.load import load
from compresskit.errors import InputError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(POINTER)
    for read in (lambda: opened(path).__enter__(), lambda: load(str(path), "train")):
        with pytest.raises(
            InputError, match=f"is a pointer of Git LFS, not the file itself; run `git lfs pull` in {tmp_path}$"
        ):
            read()


def test_a_file_that_tells_of_pointers(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"{POINTER}{'is how they begin. ' * 100}")
    with opened(path) as file:
        assert file.read(7) == b"version"
