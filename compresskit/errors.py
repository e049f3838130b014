"""Every error that compresskit raises on purpose, and the exit code each one ends with.

An error carries one line: what is wrong, where, and the mend. `compresskit.cli` prints that line and exits with
`exit_code`; a traceback is shown only with `--verbose`.
"""

import errno

EXIT_OK = 0
EXIT_INTERRUPTED = 130


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust (tokenizers, safetensors) has failed by itself, which is no `Exception`."""
    return type(error).__name__ == "PanicException"  # each of them has a class of its own, which it does not offer


class CompresskitError(Exception):
    """Base of all errors that are meant for the user: one line, no traceback."""

    exit_code: int = 5


class GateFailed(CompresskitError):
    """A gate of an evaluation did not hold, or a checkpoint that was made again is another."""

    exit_code = 1


class UsageError(CompresskitError):
    """The command line asks for something that cannot be: an impossible value, or options that exclude each other."""

    exit_code = 2


class InputError(CompresskitError):
    """Data, a checkpoint or a recipe is broken, foreign or missing."""

    exit_code = 3


class MissingError(CompresskitError):
    """This machine lacks something: a package, a GPU, the Hub."""

    exit_code = 4


class RunFailed(CompresskitError):
    """The run itself failed: a loss that is not a number, out of memory, a full disk."""

    exit_code = 5


# What the system says of a path that cannot be what was asked for, whoever opened it.
_OF_A_PATH = (*(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),)


def known_as(error: BaseException) -> CompresskitError | None:
    """A failure as one of the package's errors, with its one line and the mend; None for a fault of the program."""
    if isinstance(error, CompresskitError):
        return error
    if _is_out_of_memory(error):
        return RunFailed("out of memory; use a smaller --batch-size, or a shorter --max-length")
    if _is_disk_full(error):
        name = f" while writing {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return RunFailed(f"disk full{name}; make room, or choose another --output")
    if (isinstance(error, OSError) and error.errno == errno.EFBIG) or "File too large" in str(error):
        return RunFailed("a file would be larger than is allowed here; raise the limit (ulimit -f)")
    if isinstance(error, OSError) and error.errno == errno.EBADF and error.filename is None:
        return RunFailed("standard output is closed; open it, or send it to a file")
    return of_system(error) if isinstance(error, OSError) else None


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises a kind of RuntimeError on a GPU, a plain one on a CPU: told by its words, without torch.
    told = str(error).lower()
    known = "out of memory" in told or "can't allocate memory" in told or "not enough memory" in told
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and known)


def _is_disk_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)  # libraries written in Rust or C++ keep the words only


def of_system(error: OSError) -> CompresskitError | None:
    """What the system says of a file, as an error of ours; None where it names no file."""
    if error.filename is None:
        return None
    reason = error.strerror or type(error).__name__
    if error.errno in _OF_A_PATH:
        return InputError(f"{error.filename}: {reason}; check the name and its permissions")
    return RunFailed(f"{error.filename}: {reason}")
