"""The order within a file where a library leaves it to chance, so that the same run leaves the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

_METADATA = "__metadata__"


def order_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file that was just written by their names.

    The library writes several of them in an order that differs from call to call. The header keeps its length, so that
    no tensor moves.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        known = header.get(_METADATA, {})
        if len(known) < 2:
            return
        ordered = {_METADATA: dict(sorted(known.items())), **{k: v for k, v in header.items() if k != _METADATA}}
        text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, f"{path} has a header in another form than the library's"
        file.seek(8)
        file.write(text.ljust(length))
