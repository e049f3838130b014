"""Images drawn by matplotlib, the extra `plot`; without its global state, and whole on the disk or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compresskit import packages
from compresskit.checkpoint.store import staging_beside
from compresskit.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")


@contextlib.contextmanager
def _unswayed() -> Iterator[None]:
    """While the block runs, matplotlib sees no word of the environment that it would stumble over.

    An image needs no window, and has no date.
    """
    kept = {name: os.environ.pop(name) for name in ("MPLBACKEND", "SOURCE_DATE_EPOCH") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def check_suffix(path: Path) -> None:
    """UsageError where `path` is neither a PNG nor an SVG by its name."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--plot {path}: {path.suffix or 'a name without suffix'} is not an image; name a .png or a .svg"
        )


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure, sizes in inches, its parts placed by hand or by matplotlib; MissingError without it."""
    packages.require("matplotlib", what="--plot")
    with _unswayed():
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout=layout)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the suffix of `path`; the same figure gives the same bytes.

    Raises UsageError for another suffix.
    """
    import matplotlib as mpl

    check_suffix(path)
    kind = path.suffix.lower().removeprefix(".")
    path = Path(os.path.realpath(path))  # a link stays one, and what it leads to is written
    staging = staging_beside(path)
    try:
        # An SVG holds the time and random names unless told otherwise.
        with _unswayed(), mpl.rc_context({"svg.hashsalt": "compresskit"}), (staging / path.name).open("wb") as file:
            figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staging / path.name, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
