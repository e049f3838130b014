"""How every file that a person gives is opened, and what is said of one that the system does not let us read.

Regular files only, and links to them. A pipe, a socket or a device may keep whoever opens it waiting for ever.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from compresskit.checkpoint.nearest import nearest_path
from compresskit.errors import InputError

MEND = "check its name and its permissions, or copy it again"

MOST = 10_000_000
"""Bytes of a file that is read as a whole. A list of empty lists takes 25 times its text in memory."""

_POINTER = b"version https://git-lfs.github.com/spec/v"
_LONGEST_POINTER = 1024  # bytes, by the specification of Git LFS

_LENGTH = 8  # bytes in front of a safetensors file's header, which tell how long it is


@contextlib.contextmanager
def reading(path: Path, mend: str = MEND) -> Iterator[None]:
    """Turn the system's refusal, and text that is not UTF-8, into an InputError that names the file and the `mend`."""
    try:
        yield
    except FileNotFoundError as error:
        near = nearest_path(path)
        beside = "" if near is None else f", but {near} does"
        raise InputError(f"{path} does not exist{beside}; {mend}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or type(error).__name__}); {mend}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read (it is not UTF-8 text: {error}); {mend}") from error


def check_regular(path: Path, mend: str = MEND) -> None:
    """InputError unless `path` is a regular file, or a link to one, and not a pointer that Git LFS left in its place.

    Nothing else is opened, so nothing can wait.
    """
    with reading(path, mend):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path} cannot be read (it is a folder, not a file); {mend}")
        if not stat.S_ISREG(found.st_mode):
            mend = "write what comes from it to a file, and give that" if mend == MEND else mend
            raise InputError(f"{path} cannot be read (it is a pipe, a socket or a device, not a file); {mend}")
        if found.st_size > _LONGEST_POINTER:
            return
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    if is_pointer:
        raise InputError(f"{path} is a pointer of Git LFS, not the file itself; run `git lfs pull` in {path.parent}")


@contextlib.contextmanager
def opened(path: Path, mend: str = MEND) -> Iterator[BinaryIO]:
    """A regular file, open for reading bytes; InputError where it is none, or cannot be read."""
    check_regular(path, mend)
    with reading(path, mend), path.open("rb") as file:
        yield file


def read_bytes(path: Path, mend: str = MEND, most: int = MOST) -> bytes:
    """All of a regular file; InputError where it cannot be read, or holds more than `most` bytes."""
    with opened(path, mend) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise InputError(f"{path} has more than {most:,} bytes, too many for such a file; {mend}")
    return found


def read_text(path: Path, mend: str = MEND, most: int = MOST) -> str:
    """The UTF-8 text of a regular file, without a byte-order mark. Raises what `read_bytes` raises."""
    with reading(path, mend):
        return read_bytes(path, mend, most).decode("utf-8-sig")


def check_header(path: Path) -> None:
    """InputError where a safetensors file cannot be read, or its header is longer than the file, or any we read."""
    with opened(path) as file:
        start = file.read(_LENGTH)
        whole = path.stat().st_size
    length = int.from_bytes(start, "little")
    if len(start) < _LENGTH or length > min(MOST, whole - _LENGTH):
        raise InputError(f"{path} is not a whole safetensors file (its header is too long); copy or download it again")
