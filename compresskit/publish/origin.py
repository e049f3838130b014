"""What a checkpoint stands on and comes from, as the Hub knows it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compresskit.checkpoint.reading import read_text
from compresskit.checkpoint.store import read_json
from compresskit.errors import CompresskitError, UsageError
from compresskit.models.kind import Kind
from compresskit.models.source import BUILT_IN, Source
from compresskit.publish.hub import check_name, hub_id, license_on_hub

Relation = Literal["finetune", "adapter", "quantized"]


@dataclass(frozen=True, slots=True)
class Origin:
    """`base` is the Hub's id of what it comes from, or stands on; None where that is not on the Hub.

    `stands_on` is the same, with its `revision`, where it is needed to open the checkpoint, and `sha256` the hash of
    its weights where a manifest tells. `moved` says that the files have to name it anew.
    """

    base: str | None
    relation: Relation
    license: str | None = None
    stands_on: str | None = None
    revision: str | None = None
    sha256: str | None = None
    moved: bool = False


def origin_of(source: Source, kind: Kind, base_ref: str | None, given: str | None) -> Origin:
    """Where a checkpoint comes from; `base_ref` names its base on the Hub (owner/name, or owner/name@revision).

    `given` is the licence that was given, which is written small there; else it is that of the README.md of the
    checkpoint or its base, or of the base's card on the Hub. Raises UsageError where an overlay stands on a folder and
    no `base_ref` is given.
    """
    given = None if given is None else given.lower()
    name, _, revision = (base_ref or "").partition("@")
    if base_ref is not None:
        check_name(name, "--base-ref")
    ref, sha256 = _named(source)
    relation: Relation = "quantized" if _is_packed(source, kind) else "finetune"
    if kind.name == "adapter":
        relation = "adapter"
    if not kind.stands_on:
        base = name or hub_id(ref, source.path) or _first_model(source)
        return Origin(base, relation, given or _license(source, ref, base))
    if ref in BUILT_IN and not name:  # the program builds it anywhere
        return Origin(None, relation, given or _license(source, ref, None))
    base = name or hub_id(ref, source.path)
    if base is None:
        raise UsageError(
            f"{source.path} stands on the folder {ref}, which nobody else has; push that first and name it here "
            "(--base-ref owner/name), or push what `compresskit merge` makes of the two"
        )
    manifest = source.manifest
    if not name and manifest is not None and manifest.base is not None:
        revision = manifest.base.revision or ""
    license_ = given or _license(source, ref, base)
    return Origin(base, relation, license_, base, revision or None, sha256, moved=bool(name))


def _named(source: Source) -> tuple[str | None, str | None]:
    """What the manifest, or else PEFT's configuration, names as the base; and the hash of its weights."""
    manifest = source.manifest
    if manifest is not None and manifest.base is not None:
        return manifest.base.ref, manifest.base.sha256
    config = source.path / "adapter_config.json"
    found = read_json(config) if config.is_file() else None
    ref = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    return (ref if isinstance(ref, str) else None), None


def _is_packed(source: Source, kind: Kind) -> bool:
    """Whether its weights are those of another checkpoint in fewer bits."""
    return kind.name == "quantized" or (source.manifest is not None and source.manifest.method.startswith("quantize"))


def _first_model(source: Source) -> str | None:
    """The model on the Hub that the first step began with."""
    steps = source.manifest.steps if source.manifest is not None else ()
    began = next((step.config.get("model") or step.config.get("checkpoint") for step in steps), None)
    return hub_id(began, source.path)


def _license(source: Source, ref: str | None, base: str | None) -> str | None:
    """The licence that the checkpoint's own README.md names, or its base's; None where nothing tells."""
    folders = [source.path, *(Path(each) for each in (ref and source.path / ref, ref) if each)]
    for folder in folders:
        if os.path.isfile(folder / "README.md") and (found := _of_readme(folder / "README.md")) is not None:
            return found
    return None if base is None else license_on_hub(base)


def _of_readme(path: Path) -> str | None:
    """The licence of a card; None where it names none, or its head cannot be read."""
    import yaml
    from huggingface_hub import ModelCard

    with contextlib.suppress(CompresskitError, ValueError, yaml.YAMLError):
        found = ModelCard(read_text(path), ignore_metadata_errors=True).data.get("license")
        return found if isinstance(found, str) else None
    return None
