"""Checkpoints with a file that a test has changed, past the check of what the manifest lists."""

from __future__ import annotations

from pathlib import Path

from compresskit.checkpoint.manifest import FILE, read_manifest
from compresskit.checkpoint.store import read_json, write_json


def unlisted(folder: Path) -> Path:
    """The folder, whose manifest (if it has one) is now as before there was a list of files."""
    if (folder / FILE).is_file():
        raw = read_json(folder / FILE)
        raw.pop("files", None)
        write_json(folder / FILE, raw)
    return folder


def relisted(folder: Path) -> Path:
    """The folder, whose manifest (if it has one) now lists its files as they are."""
    manifest = read_manifest(folder)
    if manifest is not None:
        manifest.write(folder)
    return folder
