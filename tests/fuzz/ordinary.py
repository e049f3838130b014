"""Make this process one of an ordinary user: root reads and writes whatever there is, which hides faults."""

import ctypes
import os

_DROP_FROM_BOUNDS = 24  # PR_CAPBSET_DROP of linux/prctl.h
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_LAST = 63


def become_ordinary() -> None:
    """Give up root's powers, for good; files of root stay this process's own. Nothing for any other user.

    Another user would not do: root's home, where Python and this repository may lie, is closed to all others.
    """
    if os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    for capability in range(_LAST + 1):
        library.prctl(_DROP_FROM_BOUNDS, capability, 0, 0, 0)  # fails for those that this system does not have
    header, none = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    if library.capset(header, none) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
