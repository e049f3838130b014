"""The questions that `predict` is asked: data in any form, of this machine's files or from a pipe."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.checkpoint.temporary import temporary_folder

if TYPE_CHECKING:
    from compresskit.evaluate.predict import Questions

PIPE = Path("-")


def read_questions(path: Path) -> Questions:
    """The questions of a file, or with `-` of standard input, in any form that data come in; one id may stand twice.

    Raises InputError naming the place where the file is broken.
    """
    from compresskit.data.reading import read

    if path != PIPE:
        return read(path, str(path), "score", unique_ids=False)  # no answer is needed
    with temporary_folder() as folder:
        kept = folder / "input"
        with kept.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return read(kept, "standard input", "score", unique_ids=False)
