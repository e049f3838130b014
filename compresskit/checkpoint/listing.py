"""The files of a checkpoint as its manifest lists them: which there are, how long they are, and their hashes.

So a file that was cut, changed, lost or mixed up with another is told before anything is computed with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compresskit.checkpoint.reading import reading
from compresskit.checkpoint.store import sha256_file
from compresskit.errors import InputError

_HASH = re.compile("[0-9a-f]{64}")
_MEND = 'copy or make the checkpoint again; if you changed it yourself, take "files" out of its compresskit.json'


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a list: the SHA-256 of its content in hex, and its size in bytes; ValueError for what is neither."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.sha256) or self.bytes < 0:
            raise ValueError("a listed file has a sha256 of 64 hex digits, and a size of at least 0 bytes")


def list_files(folder: Path, but: str) -> dict[str, Listed]:
    """Every file that lies in a folder, by name, `but` for one (that which holds the list)."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != but)
    return {path.name: Listed(sha256_file(path), path.stat().st_size) for path in paths}


def check_listed(folder: Path, files: Mapping[str, Listed], names: Iterable[str]) -> None:
    """InputError where one of the files `names` is not there, or not as it is listed.

    All sizes are looked at before the first file is read. A file is read once in a process.
    """
    names = sorted(names)
    for name in names:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder} lacks {name}, which its manifest lists; {_MEND}")
        if (size := path.stat().st_size) != files[name].bytes:
            raise InputError(f"{path} has {size:,} bytes, not the {files[name].bytes:,} of its manifest; {_MEND}")
    for name in names:
        with reading(folder / name):
            found = sha256_file(folder / name)
        if (listed := files[name].sha256) != found:
            raise InputError(f"{folder / name} was changed (sha256 {found}, not {listed} as in its manifest); {_MEND}")
