"""What is said of a file that the system does not let us read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from compresskit.errors import InputError


@contextlib.contextmanager
def reading(path: Path, mend: str = "check its name and its permissions, or copy it again") -> Iterator[None]:
    """Turn the system's refusal, and text that is not UTF-8, into an InputError that names the file and the `mend`."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; {mend}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or type(error).__name__}); {mend}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read (it is not UTF-8 text: {error}); {mend}") from error
