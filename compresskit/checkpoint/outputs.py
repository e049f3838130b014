"""Where results may go: to new names and empty folders, or in place of what may be replaced; never over what is read.

Every verb that writes asks here before any work, and for a plan too: `check_folder` for a checkpoint, `check_file` for
a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from compresskit.errors import UsageError

LONGEST_NAME = 200
"""Bytes of an output's own name; the 55 that file systems allow beyond are for those that stand beside it."""

_SHOWN = 200
"""Characters of a path that a message quotes."""

_OF_A_CHECKPOINT = ("compresskit.json", "config.json", "adapter_config.json")


def check_folder(output: Path, inputs: Iterable[Path] = (), *, overwrite: bool) -> None:
    """UsageError unless a new folder may come to be at `output`, or with `overwrite` in place of what stands there.

    That is a new name, an empty folder, or with `overwrite` a checkpoint; not where it is over, above or in one of the
    `inputs`.
    """
    check_name(output)
    check_apart(output, inputs)
    with placing(output):
        kind = _kind(output)
        if kind is not None and not stat.S_ISDIR(kind):
            raise UsageError(f"{quoted(output)} is {_told(kind)}; choose another folder with -o")
        if kind is not None and any(output.iterdir()):
            _check_replaced(output, overwrite)
        if kind is not None and os.path.ismount(output):
            raise UsageError(f"{quoted(output)} is where a disk is mounted; name a new folder in it with -o")
        _check_above(output)


def _check_replaced(output: Path, overwrite: bool) -> None:
    """UsageError where a folder that is not empty is to stay: without `overwrite`, or as it is no checkpoint."""
    told = f"the output folder {quoted(output)} is not empty"
    if not overwrite:
        raise UsageError(f"{told}; pass --overwrite, or choose another with -o")
    if not any((output / name).is_file() for name in _OF_A_CHECKPOINT):
        raise UsageError(f"{told}, and no checkpoint, which alone --overwrite replaces; choose another with -o")


def check_file(output: Path, inputs: Iterable[Path] = (), *, flag: str, makes_folder: bool = False) -> None:
    """UsageError unless a file may be written at `output`: to a new name, or in place of a plain file.

    A link is followed. Unless the writer `makes_folder`, the folder has to be there. `flag` is the option that names
    the output, which must not be over, above or in one of the `inputs`.
    """
    _check_text(output, flag)
    if not makes_folder and not os.path.isdir(output.parent):
        raise UsageError(f"{flag} {quoted(output)}: there is no folder {quoted(output.parent)}; make it first")
    check_apart(output, inputs, flag)
    with placing(output, flag):
        real = Path(os.path.realpath(output))
        kind = _kind(real) or stat.S_IFREG  # what is not there yet will be one
        if stat.S_ISDIR(kind):
            raise UsageError(f"{flag} {quoted(output)} is a folder; give the name of a file in it")
        if stat.S_ISLNK(kind):
            raise UsageError(f"{flag} {quoted(output)} is a link that leads nowhere; choose another")
        if not stat.S_ISREG(kind):
            raise UsageError(f"{flag} {quoted(output)} is not a regular file; give the name of one")
        _check_above(real, flag)


def check_name(output: Path) -> None:
    """UsageError for a name under which nothing can be made: `.` and `..`, no UTF-8, too long.

    A result is made beside its final name, so it has to have one of its own.
    """
    if output.name in ("", ".."):
        raise UsageError(f"the output {quoted(output)} has no name of its own; name a new folder with -o")
    _check_text(output, "-o")


def _check_text(output: Path, flag: str) -> None:
    try:
        is_text = "\0" not in str(output).encode().decode()
    except UnicodeEncodeError:  # what the system gave and is not UTF-8: configurations and manifests cannot name it
        is_text = False
    if not is_text:
        raise UsageError(f"{flag} {quoted(output)} is not a name in UTF-8; choose another")
    if len(output.name.encode()) > LONGEST_NAME:
        raise UsageError(f"{flag} {quoted(output)} has a name of more than {LONGEST_NAME} bytes; choose a shorter one")


def _kind(path: Path) -> int | None:
    """What stands at a path, links as such (see `stat.S_ISDIR` and its like); None for nothing."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _told(kind: int) -> str:
    if stat.S_ISREG(kind):
        return "a file"
    return "a link, not the folder itself" if stat.S_ISLNK(kind) else "a device, a pipe or a socket"


def _check_above(output: Path, flag: str = "-o") -> None:
    """UsageError where what `output` lies in, or is to lie in, is no folder, or may not be written to."""
    above = next((each for each in output.parents if _kind(each) is not None), Path())
    if not above.is_dir():
        raise _cannot_be_made(output, f"{quoted(above)} is not a folder", flag)
    if not os.access(above, os.W_OK | os.X_OK):
        raise _cannot_be_made(output, f"{quoted(above)} may not be written to", flag)


@contextlib.contextmanager
def placing(output: Path, flag: str = "-o") -> Iterator[None]:
    """Turn what the system says of a place (no permission, too long a name) into a UsageError; a full disk stays."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _cannot_be_made(output, error.strerror or type(error).__name__, flag) from error


def _cannot_be_made(output: Path, reason: str, flag: str) -> UsageError:
    return UsageError(f"{quoted(output)} cannot be made ({reason}); choose another place with {flag}")


def check_apart(output: Path, inputs: Iterable[Path], flag: str = "-o") -> None:
    """UsageError where `output` is one of the `inputs`, a folder that holds one, or a name inside of one.

    Both are followed to where they lead, so another spelling or a link makes no difference; an input that is not
    there is nobody's. `flag` is the option that names the output.
    """
    with placing(output, flag):  # a working folder that is gone has no path
        place = _lineage(output)
    for each in inputs:
        read = _lineage(each)
        if read[0] is None or not (place[0] in read or read[0] in place):
            continue
        relation = "is" if place[0] == read[0] else "holds" if place[0] in read else "lies in"
        raise UsageError(f"{flag} {quoted(output)} {relation} {quoted(each)}, which is read; name another place")


def _lineage(path: Path) -> list[tuple[int, int] | None]:
    """A path and all that it lies in, by device and number as the file system has them; None for what is not there."""
    real = Path(os.path.realpath(path))
    return [_number(each) for each in (real, *real.parents)]


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def quoted(path: Path) -> str:
    """A path as a message tells it: its beginning, where it is long."""
    text = str(path)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
