"""The kinds of checkpoints, one file each, and what is found out about a checkpoint by its kind.

Nothing needs torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from compresskit import packages
from compresskit.checkpoint.store import sha256_file
from compresskit.errors import CompresskitError, InputError
from compresskit.models.kind import Kind, instead_of
from compresskit.models.kinds.adapter import AdapterKind
from compresskit.models.kinds.full import FullKind
from compresskit.models.kinds.mask import MaskKind
from compresskit.models.kinds.onnx import OnnxKind
from compresskit.models.kinds.quantized import QuantizedKind
from compresskit.models.source import Source, check_beside, check_own_files, named_base, own_files, resolve

# In this order: the first that owns a folder is its kind. Full owns whatever is none of the others'.
KINDS: Sequence[Kind] = (MaskKind(), AdapterKind(), OnnxKind(), QuantizedKind(), FullKind())


def kind_of(source: Source) -> Kind:
    """The kind of a checkpoint. Raises InputError for what no library should open (see `check_beside`)."""
    check_beside(source.path)
    return next(kind for kind in KINDS if kind.owns(source.path, source.manifest))


def base_source(source: Source) -> Source | None:
    """The checkpoint that an overlay stands on; None for a checkpoint that stands alone.

    Raises InputError where the base is not there, is another than that of the manifest, or of a kind that cannot be
    one; MissingError where the Hub has it and cannot be reached.
    """
    kind = kind_of(source)
    base = kind.base(source)
    if base is not None and (found := kind_of(base)).name not in kind.stands_on:
        raise InputError(
            f"{source.path} stands on {base.path}, which is of kind {found.name}; "
            f"it can stand on {' or '.join(sorted(kind.stands_on))}; {instead_of(found, base.path)}"
        )
    return base


def checked_base(source: Source) -> Source | None:
    """What `base_source` gives, once a checkpoint's files are those of its manifest and fit what it stands on.

    Whoever opens a checkpoint asks here first. Raises InputError where they are not, and what `base_source` raises.
    """
    check_own_files(source)
    base = base_source(source)
    _check_fit(source, base, base_source)
    return base


def require_packages(source: Source) -> None:
    """MissingError where a package is not installed that opens a checkpoint, or what it stands on.

    Nothing is hashed, imported or downloaded. A folder that cannot be read needs none: whoever opens it says why.
    """
    folder = source
    seen: set[str] = set()
    while (real := os.path.realpath(folder.path)) not in seen:
        seen.add(real)
        try:
            needed = kind_of(folder).packages(folder.path)
            below = _base_here(folder)
        except CompresskitError:
            return
        packages.require(*needed, what=f"the checkpoint {source.ref}")
        folder = below or folder


def check_here(source: Source) -> None:
    """What `checked_base` raises of a checkpoint's own files, and where its base is on this machine of their fit.

    The base itself is not hashed, and nothing is downloaded.
    """
    check_own_files(source)
    _check_fit(source, _base_here(source), _base_here)


def verify(source: Source) -> list[Source]:
    """Look at every listed file of a checkpoint and of all that it stands on; those checkpoints, itself first.

    Raises InputError for the first that is not as its manifest says, and what `base_source` raises.
    """
    check_own_files(source, every=True)
    base = checked_base(source)
    return [source, *(verify(base) if base is not None else [])]


def _check_fit(source: Source, base: Source | None, below: Callable[[Source], Source | None]) -> None:
    bottom = base
    while base is not None:
        bottom, base = base, below(base)
    if bottom is not None:
        kind_of(source).check(source, bottom)


def _base_here(source: Source) -> Source | None:
    """The folder that an overlay's manifest names as its base; None where it is not on this machine."""
    manifest = source.manifest
    if manifest is None or manifest.base is None or not kind_of(source).stands_on:
        return None
    ref = manifest.base.ref
    return next((Source(ref, path) for path in (source.path / ref, Path(ref)) if os.path.isdir(path)), None)


def checkpoint_files(source: Source) -> list[Path]:
    """Every file that is needed to run a checkpoint: its own, and those of its base.

    Raises what `base_source` raises.
    """
    base = base_source(source)
    return own_files(source.path) + (checkpoint_files(base) if base is not None else [])


def places(source: Source) -> list[Path]:
    """What is read where a checkpoint is opened: its folder, the files that links in it lead to, and its base's.

    What int8 or packed weights were made from counts too: a merge reads it. A base that is not there, or a manifest
    that is broken, ends the list: whoever opens the checkpoint says what is wrong. Nothing is hashed.
    """
    found: dict[str, list[Path]] = {}
    below: Source | None = source
    while below is not None and (real := os.path.realpath(below.path)) not in found:
        found[real] = [below.path, *(path for path in below.path.iterdir() if path.is_symlink())]
        below = _named_below(below)
    return [path for paths in found.values() for path in paths]


def _named_below(source: Source) -> Source | None:
    try:
        kind, manifest = kind_of(source), source.manifest
        if manifest is not None and manifest.base is not None and (kind.stands_on or isinstance(kind, QuantizedKind)):
            return named_base(source.path, manifest.base)
        return kind.base(source)
    except CompresskitError:
        return None


def fingerprint(ref: str) -> str:
    """Hex SHA-256 over name and content of all files that are needed to run a checkpoint (see `checkpoint_files`).

    The same for a copy under another name or at another time. Raises what `resolve` and `base_source` raise.
    """
    source: Source | None = resolve(ref)
    digest, depth = hashlib.sha256(), 0
    while source is not None:
        check_beside(source.path)
        for path in own_files(source.path):
            digest.update(f"{sha256_file(path)} {depth}/{path.name}\n".encode())
        source, depth = base_source(source), depth + 1
    return digest.hexdigest()
