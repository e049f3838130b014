"""Temporary folders that go however their process ends, also by a signal that no program can catch.

A small process of its own, the sweeper, is told of each folder before that is made. It waits until this process has
ended, removes what is still there, and ends too.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

# Paths come on its standard input, each with a NUL behind it, until the last holder of the other end has gone. A child
# of that process may still be writing for a moment, so what is there again is removed again.
_SWEEP = """
import os, shutil, sys, time
os.chdir("/")
paths = sys.stdin.buffer.read().split(b"\\0")[:-1]
for _ in range(50):
    paths = [path for path in paths if os.path.lexists(path)]
    if not paths:
        break
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    time.sleep(0.1)
"""


def new_folder(directory: Path | None = None, prefix: str = "compresskit-") -> Path:
    """A new private folder in `directory`, by default that of temporary files; OSError where it cannot be made.

    Its maker removes it or gives it another name. What still has this name when the process has ended is removed then.
    """
    path = Path(directory or tempfile.gettempdir(), prefix + secrets.token_hex(8))
    _sweeper.tell(os.path.abspath(path))
    path.mkdir(mode=0o700)
    return path


@contextlib.contextmanager
def temporary_folder(directory: Path | None = None, prefix: str = "compresskit-") -> Iterator[Path]:
    """A new private folder for the block, removed with all that is in it afterwards; see `new_folder`."""
    path = new_folder(directory, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class _Sweeper:
    """The process that removes what this one left, started with the first folder that it is told of."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._pipe: int | None = None

    def tell(self, path: str) -> None:
        """Have a path removed at the end. Where no process can be started, that is left to whoever made it."""
        with self._lock, contextlib.suppress(OSError):
            if self._pipe is None:
                self._start()
            assert self._pipe is not None
            os.write(self._pipe, os.fsencode(path) + b"\0")

    def _start(self) -> None:
        read, self._pipe = os.pipe()
        try:
            null = ((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2))
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _SWEEP],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, read, 0), *null],
                setpgroup=0,  # what a terminal sends to this process must not end it too
            )
        finally:
            os.close(read)

    def close(self) -> None:
        """Have everything removed now, and wait for it."""
        if self._pipe is not None and self._pid is not None:
            os.close(self._pipe)
            with contextlib.suppress(ChildProcessError, KeyboardInterrupt):
                os.waitpid(self._pid, 0)
            self._forget()

    def left_behind(self) -> None:
        """In a process that was forked from this one: its end is not the end of this one."""
        if self._pipe is not None:
            os.close(self._pipe)
        self._forget()


_sweeper = _Sweeper()
atexit.register(_sweeper.close)
os.register_at_fork(after_in_child=_sweeper.left_behind)
