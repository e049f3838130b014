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


def of_system(error: OSError) -> CompresskitError | None:
    """What the system says of a file, as an error of ours; None where it names no file."""
    if error.filename is None:
        return None
    reason = error.strerror or type(error).__name__
    if error.errno in _OF_A_PATH:
        return InputError(f"{error.filename}: {reason}; check the name and its permissions")
    return RunFailed(f"{error.filename}: {reason}")
