"""What is there under nearly the name that was typed, for "did you mean"."""

from __future__ import annotations

import difflib
import os
from pathlib import Path


def nearest_path(path: Path) -> Path | None:
    """What is there under nearly the same path; None where nothing is."""
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if not os.path.lexists(found / part):
            near = difflib.get_close_matches(part, names_in(found), n=1)
            if not near:
                return None
            part = near[0]
        found /= part
    return found


def names_in(folder: Path) -> list[str]:
    """The names in a folder that are not hidden; none where it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []
