"""Where outcomes are kept; nothing else is imported for it."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_VARIABLE = "COMPRESSKIT_CACHE"


def cache_folder() -> Path:
    """Where outcomes are kept: $COMPRESSKIT_CACHE, else compresskit in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(home, "compresskit")) / "eval"
