"""What control groups of Linux allow this process: processors and memory, of both versions of their files.

A process is in one group, and the limits of all groups above hold for it too. In a container the path of its group may
not be there; then the top of what is mounted is its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")

# Version 1 writes a number of about 2^63 where there is no limit.
_ENDLESS = 1 << 60


def cpu_limit() -> float | None:
    """How many processors this process may keep busy, on average; None where nothing limits it."""
    return min(_cpu_limits(), default=None)


def memory_limit() -> int | None:
    """How many bytes the processes of this one's group may take; None where nothing limits them."""
    return min(_memory_limits(), default=None)


def _cpu_limits() -> Iterator[float]:
    for folder in _folders(""):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            yield int(words[0]) / int(words[1])
    for folder in _folders("cpu"):
        quota, period = (_read(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        if quota.isdecimal() and period.isdecimal() and int(period):  # a quota of -1 is none
            yield int(quota) / int(period)


def _memory_limits() -> Iterator[int]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _folders(controller):
            text = _read(folder / name).strip()
            if text.isdecimal() and int(text) < _ENDLESS:
                yield int(text)


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's group and of those above; of version 2 where `controller` is empty."""
    for line in _read(_OWN).splitlines():
        _, _, rest = line.partition(":")
        names, _, group = rest.partition(":")
        if controller in names.split(","):
            own = PurePosixPath("/", os.path.normpath(group or "/").lstrip("/"))
            for path in (own, *own.parents):
                yield _ROOT / controller / str(path).lstrip("/")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
