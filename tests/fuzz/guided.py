"""A reader under a fuzzer that is guided by coverage: `python -m tests.fuzz.guided mask -max_total_time=60`.

It needs the package atheris (`pip install 'compresskit[fuzz]'`); what follows the reader's name is for libFuzzer. Bytes
that lead to a fault are kept in a file of this folder, `crash-…`; naming that file reads them again.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["compresskit.checkpoint", "compresskit.models.lstm"]):
    from compresskit.errors import InputError
    from tests.fuzz.readers import READERS, SEEDS


def main(words: list[str]) -> None:
    """Fuzz the reader that the second word names, until a fault or the end of its time."""
    program, reader, *flags = words
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
        Path(corpus, "seed").write_bytes(SEEDS[reader])

        def test(data: bytes) -> None:
            with contextlib.suppress(InputError):
                READERS[reader](Path(folder), data)

        starts = [] if any(not flag.startswith("-") for flag in flags) else [corpus]
        atheris.Setup([program, "-timeout=5", "-rss_limit_mb=3000", *flags, *starts], test)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
