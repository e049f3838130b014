"""The kinds of checkpoints, one file each, and what is found out about a checkpoint by its kind.

Nothing needs torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from compresskit.checkpoint.store import sha256_file
from compresskit.errors import CompresskitError, InputError
from compresskit.models.kind import Kind
from compresskit.models.kinds.adapter import AdapterKind
from compresskit.models.kinds.full import FullKind
from compresskit.models.kinds.mask import MaskKind
from compresskit.models.kinds.onnx import OnnxKind
from compresskit.models.kinds.quantized import QuantizedKind
from compresskit.models.source import Source, check_beside, named_base, own_files, resolve

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
            f"it can stand on {' or '.join(sorted(kind.stands_on))}; {found.instead.format(ref=base.path)}"
        )
    return base


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
