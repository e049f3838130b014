"""How a training on a CPU takes memory of the system, and gives it back."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Blocks of so many bytes go back to the system as soon as they are freed.
LARGE = 4 << 20
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_CHOSEN = ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
_STATM = Path("/proc/self/statm")


def give_back_freed() -> None:
    """Let glibc give LARGE blocks back to the system as they are freed; another C library is left as it is.

    By itself it keeps freed blocks of up to 32 MB, which the activations of a batch are, for what fits between others
    that are still held. LoRA of MiniLM in batches of 32 took 5.0 GB in place of 3.0; the step takes some 5 % longer.
    Who chose otherwise by glibc's own variables has that.
    """
    if any(name in os.environ for name in _CHOSEN):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE)


def resident_bytes() -> int | None:
    """What this process holds of the machine's memory, in bytes; None where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
