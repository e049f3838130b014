"""Which files of a checkpoint go to the Hub, and what stands in those that name its base."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from compresskit.checkpoint.listing import Listed
from compresskit.checkpoint.manifest import FILE, Base, Manifest, Step
from compresskit.checkpoint.reading import check_regular
from compresskit.checkpoint.store import read_json
from compresskit.errors import InputError
from compresskit.models.source import HUB_FILES, Source, graphs_below, own_files
from compresskit.publish.origin import Origin
from compresskit.publish.public import named, public
from compresskit.text import to_json

README = "README.md"
_ADAPTER = "adapter_config.json"

Files = Mapping[str, Path | bytes]
"""Files by the names that they get on the Hub: where one lies, or what stands in it."""


def files_of(source: Source, origin: Origin) -> Files:
    """The checkpoint's own files: those that its manifest lists, or of another tool those that are needed to run it.

    Where its base is named anew, manifest and PEFT's configuration name it so. The manifest tells no way to a place on
    this machine. Raises InputError for a link that leads out of the folder.
    """
    found: dict[str, Path | bytes] = {}
    for path in _listed(source):
        check_regular(path)
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source.path)):
            raise InputError(f"{path} is a link that leads out of its folder; put the file itself there")
        found[path.relative_to(source.path).as_posix()] = path
    if origin.moved and _ADAPTER in found:
        config = read_json(source.path / _ADAPTER)
        named = {"base_model_name_or_path": origin.stands_on, "revision": origin.revision}
        found[_ADAPTER] = _json({**config, **named} if isinstance(config, dict) else named)
    if source.manifest is not None:
        changed = {name: each for name, each in found.items() if isinstance(each, bytes)}
        found[FILE] = _json(_there(source.manifest, origin, changed).to_dict())
    return found


def _listed(source: Source) -> list[Path]:
    manifest = source.manifest
    if manifest is not None and manifest.files is not None:
        return [source.path / name for name in sorted((*manifest.files, FILE)) if name != README]
    own = [path for path in own_files(source.path) if any(fnmatch(path.name, pattern) for pattern in HUB_FILES)]
    return sorted({*own, *graphs_below(source.path)})


def _there(manifest: Manifest, origin: Origin, changed: Mapping[str, bytes]) -> Manifest:
    """The manifest as it is on the Hub: the base by its id there, the `changed` files as they are now, no card."""
    manifest = replace(manifest, steps=[_seen(step) for step in manifest.steps])
    if manifest.base is not None:
        base = replace(manifest.base, ref=named(manifest.base.ref))
        if origin.moved and origin.stands_on is not None:
            base = Base(origin.stands_on, origin.revision, base.sha256)
        manifest = replace(manifest, base=base)
    if manifest.files is None:
        return manifest
    anew = {name: Listed(sha256(text).hexdigest(), len(text)) for name, text in changed.items()}
    return replace(manifest, files={name: each for name, each in {**manifest.files, **anew}.items() if name != README})


def _seen(step: Step) -> Step:
    """A step as others may see it."""
    data = None if step.data is None else replace(step.data, path=named(step.data.path))
    return replace(step, config=public(step.config), data=data, metrics=public(step.metrics))


def _json(value: object) -> bytes:
    return (to_json(value, indent=2) + "\n").encode()


def bytes_of(files: Files) -> int:
    """How many bytes the files are."""
    return sum(len(each) if isinstance(each, bytes) else each.stat().st_size for each in files.values())
