"""Folders that this program writes for itself, and later takes up again: sealed with the hashes of their files.

What lies in a workspace or a cache may have been cut by a full disk, a crash or a person. A folder is opened only where
every byte is as it was written, so that nobody who reads its files has to ask what else they might hold.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compresskit.checkpoint.store import publish, read_json, sha256_file, write_json
from compresskit.errors import InputError

SEAL = "seal.json"
UNFINISHED = ".writing"
"""What the name of a folder ends with that is not whole yet, or no longer."""

# Name, bytes and SHA-256 of a file are some 150 bytes; a folder of ours holds a dozen, and one for each process.
_LONGEST = 1 << 20


def seal(folder: Path) -> None:
    """Write the bytes and the SHA-256 of all files in a folder into it."""
    files = sorted(path for path in folder.iterdir() if path.name != SEAL)
    write_json(folder / SEAL, {path.name: [path.stat().st_size, sha256_file(path)] for path in files})


@contextlib.contextmanager
def sealed_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which is sealed and becomes `folder` when the block ends well, in place of what was there.

    It is `NAME.writing` meanwhile, and stays where the block does not end well, until the next one.
    """
    staging = folder.with_name(folder.name + UNFINISHED)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    yield staging
    seal(staging)
    publish(staging, folder)


def check_seal(folder: Path) -> None:
    """InputError, naming a file, where a folder is not as it was sealed; the mend is for one in a workspace."""
    if (name := broken(folder)) is not None:
        raise InputError(
            f"{folder / name} is not as the run wrote it; remove {folder} to go on from what was before it, "
            "or pass --overwrite to start anew"
        )


def check_seals(work: Path) -> None:
    """`check_seal` of all folders in a workspace, if it is there, but of those that came to be or went just then."""
    folders = sorted(path for path in work.iterdir() if path.is_dir()) if work.is_dir() else []
    for folder in folders:
        if not folder.name.endswith(UNFINISHED) and not folder.name.startswith("."):
            check_seal(folder)


def broken(folder: Path) -> str | None:
    """The name of a file in a folder that is not as it was sealed, is missing, or came later; None where all are.

    Nothing but regular files is opened, and none that has not its own size.
    """
    sizes = _sizes(folder)
    if not 0 < sizes.get(SEAL, 0) < _LONGEST:
        return SEAL
    try:
        known: Any = read_json(folder / SEAL)
        expected = {str(name): (int(size), str(digest)) for name, (size, digest) in known.items()}
    except (InputError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return SEAL
    del sizes[SEAL]
    for name in sorted({*sizes, *expected}):
        size, digest = expected.get(name, (-1, ""))
        if size < 0 or sizes.get(name) != size or _hash(folder / name) != digest:
            return name
    return None


def _hash(path: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        return sha256_file(path)
    except OSError:
        return None


def _sizes(folder: Path) -> dict[str, int]:
    """The bytes of the files in a folder by name; -1 for what is no regular file; none where there is no folder."""
    found = {}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            status = path.lstat()
            found[path.name] = status.st_size if stat.S_ISREG(status.st_mode) else -1
    return found
