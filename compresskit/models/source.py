"""From what the user typed (an alias, a Hub id, a folder) to the files of a checkpoint.

Nothing here needs torch or transformers, so that a process which only hands checkpoints on starts at once.
"""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from compresskit import console
from compresskit.checkpoint.listing import check_listed
from compresskit.checkpoint.manifest import Base, Manifest, read_manifest
from compresskit.checkpoint.nearest import names_in, nearest_path
from compresskit.checkpoint.reading import check_regular, read_bytes
from compresskit.checkpoint.store import read_safetensors_metadata, sha256_weights
from compresskit.errors import InputError, MissingError, UsageError
from compresskit.models.architecture import ARCHITECTURES

ALIASES: Mapping[str, str] = {
    "bert": "google-bert/bert-base-uncased",
    "t5": "google-t5/t5-base",
    "mamba": "state-spaces/mamba-130m-hf",
}
# Models that `builtin.py` builds; their weights are random.
BUILT_IN = ("demo/bert", "demo/lstm", "demo/mamba", "demo/t5")

# What a checkpoint needs from the Hub: configuration, tokenizer, safetensors or ONNX; no other framework's files.
HUB_FILES = ["*.json", "*.txt", "*.jinja", "*.model", "*.safetensors", "*.onnx", "*.onnx_data", "*.onnx.data"]
# Where there are no weights of torch's, the graphs that the Hub has beside each other in a folder of their own; not
# their further forms, such as `model_quantized.onnx`.
GRAPHS_BELOW = "onnx/*model.onnx*"
HUB_IGNORED = ["onnx/*", "openvino/*", "coreml/*", "*/*"]
# Bytes of a text that is read as a whole: the largest tokenizers have half of these, and a third of these lists.
# Settings are small: they are copied again and again.
TEXTS, MOST_TEXT, SMALL_TEXT, MOST_LISTS = (".json", ".txt", ".model"), 64_000_000, 2_000_000, 2_000_000
# What lies in a checkpoint's folder and is not needed to run it: hidden files, the log of its training, and what
# transformers' Trainer keeps there to go on training.
NOT_NEEDED = (
    ".*",
    "log.jsonl",
    "trainer_state.json",
    "training_args.bin",
    "*optimizer*.pt",
    "scheduler.pt",
    "rng_state*",
)
# How a file of answers is called, which stands beside checkpoints on a command line.
_ANSWERS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
# What the Hub's own tools read the place of their cache from, when they are imported.
_CACHE = "HF_HUB_CACHE"
# What weights are opened from.
_WEIGHTS = (".safetensors", ".onnx")


@dataclass(frozen=True)
class Source:
    """Where a checkpoint lies: `ref` as typed, its folder, the Hub's revision, and whether its weights are random."""

    ref: str
    path: Path
    revision: str | None = None
    untrained: bool = False

    @functools.cached_property
    def manifest(self) -> Manifest | None:
        """The folder's manifest, read once; None where there is none. Raises InputError where it is broken."""
        return read_manifest(self.path)


def known_aliases() -> list[str]:
    """All short names that MODEL takes."""
    return [*ALIASES, *ARCHITECTURES, *BUILT_IN]


def resolve(ref: str, revision: str | None = None) -> Source:
    """Find a checkpoint's folder; a Hub id is downloaded to the Hub's cache, at `revision` or the newest.

    Raises UsageError for an unknown short name, InputError for a folder or Hub id that does not exist, MissingError
    where the Hub cannot be reached.
    """
    if Path(ref).is_dir():
        return Source(ref, Path(ref))
    if os.path.lexists(ref):
        what = "a file" if Path(ref).is_file() else "no folder"
        raise InputError(f"{ref} is {what}; give the folder of a checkpoint")
    if ref in BUILT_IN:
        from compresskit.models import builtin

        return Source(ref, builtin.build(ref), untrained=True)
    if ref in ARCHITECTURES:
        raise UsageError(
            f"{ref} is built from its training data: make one with `compresskit train {ref}`, and give that"
        )
    hub_id = ALIASES.get(ref, ref)
    if revision is None:  # which the Hub alone has
        _check_is_no_path(ref)
    if "/" not in hub_id or (hub_id.startswith("demo/")):
        near = difflib.get_close_matches(ref, [*known_aliases(), *names_in(Path())], n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"known: {', '.join(known_aliases())}; a Hub id has the form owner/name"
        )
        raise UsageError(f"unknown model {ref!r}; {hint}")
    try:
        folder = download(hub_id, revision)
    except (InputError, MissingError) as error:
        here = [str(nearest_path(Path(ref)) or ""), *difflib.get_close_matches(ref, BUILT_IN, n=1, cutoff=0.8)]
        closest = next((each for each in here if each), None)
        if closest is None or revision is not None or ref in ALIASES:
            raise
        raise type(error)(f"{error}; or did you mean {closest}?") from error
    return Source(ref, folder, revision=folder.name)


def resolve_on_hub(ref: str, revision: str) -> Source:
    """A model of the Hub at a branch, tag or commit; UsageError where `ref` is no such model, else as `resolve`."""
    if os.path.lexists(ref) or ref in BUILT_IN or ref in ARCHITECTURES:
        raise UsageError(f"--revision {revision} has no effect with {ref}, which is not of the Hub; leave it out")
    return resolve(ref, revision)


def keep_models_in(folder: Path) -> None:
    """Keep the Hub's models in a folder from now on, in this process and in those that it starts."""
    os.environ[_CACHE] = str(folder.expanduser().absolute())


def _check_is_no_path(ref: str) -> None:
    """InputError where a reference to what is not there can only be a path, or the folder that it begins with is here.

    `runs/dnese` beside a folder `runs` has the form of a Hub id; the Hub is not asked, whatever lies there.
    """
    path, is_file = Path(ref), ref.endswith(_ANSWERS)
    is_path = path.is_absolute() or ref.startswith((".", "~")) or ref.count("/") > 1 or is_file
    owner_is_here = not is_path and "/" in ref and not ref.startswith("demo/") and path.parent.is_dir()
    if not is_path and not owner_is_here:
        return
    near, what = nearest_path(path), "file" if is_file else "folder"
    if near is not None:
        raise InputError(f"there is no {what} {ref}; did you mean {near}?")
    told = f" ({path.parent} is a folder here, so no model of the Hub is meant)" if owner_is_here else ""
    raise InputError(f"there is no {what} {ref}{told}; check the path")


def download(hub_id: str, revision: str | None = None) -> Path:
    """The Hub's snapshot of a model, from the cache where it is there.

    Raises MissingError where the Hub cannot be reached, InputError where it has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place = os.environ.get(_CACHE) or None
    try:
        folder = Path(
            snapshot_download(
                hub_id, revision=revision, cache_dir=place, allow_patterns=HUB_FILES, ignore_patterns=HUB_IGNORED
            )
        )
        if not _has_weights(folder):
            snapshot_download(hub_id, revision=folder.name, cache_dir=place, allow_patterns=GRAPHS_BELOW)
        return folder
    except RepositoryNotFoundError as error:
        raise InputError(
            f"there is no folder {hub_id} here, and the Hub has no such model, or it is private; "
            "check the name, or log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"the Hub has no revision {revision} of {hub_id}; give a branch, a tag or a commit") from error
    except HFValidationError as error:
        raise InputError(f"there is no folder {hub_id}, and no model of the Hub can be called so") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise MissingError(
            f"there is no folder {hub_id} here, and the Hub cannot be reached ({type(error).__name__}); "
            f"where there is a network run `hf download {hub_id} --local-dir DIR`, then give DIR here, or try demo/bert"
        ) from error


def resolve_base(overlay: Path, base: Base) -> Source:
    """The base of an overlay: a folder relative to the overlay's, an absolute one, or a Hub id.

    Raises InputError where it is not there, or its weights are not those that the overlay was made on.
    """
    try:
        source = named_base(overlay, base)
    except (InputError, UsageError) as error:
        raise InputError(
            f"the base {base.ref} of the overlay {overlay} is not there; put it back, or merge where the base is"
        ) from error
    found = sha256_weights(source.path)
    if found != base.sha256:
        raise InputError(
            f"{overlay} was made on a base with weights sha256 {base.sha256}, but {base.ref} has {found}; "
            "give it its own base"
        )
    return source


def named_base(overlay: Path, base: Base) -> Source:
    """The base that a manifest names, whatever its weights are. Raises what `resolve` raises."""
    beside = overlay / base.ref
    return Source(base.ref, beside) if os.path.isdir(beside) else resolve(base.ref, base.revision)


def base_of(source: Source, output: Path) -> Base:
    """How an overlay in `output` refers to its base: a folder by its path from there, so that both can move."""
    digest = sha256_weights(source.path)
    if source.revision is None and not source.untrained:
        return Base(os.path.relpath(source.path.resolve(), output.resolve()), None, digest)
    return Base(ALIASES.get(source.ref, source.ref), source.revision, digest)


def check_beside(folder: Path) -> None:
    """InputError where something in a checkpoint's folder is no file, though it is called like one, or too large.

    Libraries open by their names whatever lies there: a pipe would keep them waiting, a hole would fill the memory.
    """
    for path in [*sorted(folder.iterdir()), *graphs_below(folder)]:
        # A folder, or a link that leads nowhere, is in nobody's way where nobody opens what is called so.
        if not _is_needed(path.name) or not (_is_read(path) or (os.path.exists(path) and not os.path.isdir(path))):
            continue
        check_regular(path)
        size = path.stat().st_size
        if path.suffix == ".safetensors" and size > MOST_TEXT:
            read_safetensors_metadata(path)  # whether it is whole, or a hole that would be hashed for hours
        if path.suffix in TEXTS and size > SMALL_TEXT:
            most = SMALL_TEXT if path.match("*config.json") else MOST_TEXT
            text = read_bytes(path, most=most)
            if path.suffix == ".json" and text.count(b"[") + text.count(b"{") > MOST_LISTS:
                raise InputError(f"{path} holds more than {MOST_LISTS:,} lists and objects; copy it again")


def _is_read(path: Path) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in HUB_FILES)


def own_files(folder: Path) -> list[Path]:
    """The files of a checkpoint's folder that are needed to run it, sorted by name (see `NOT_NEEDED`)."""
    own = sorted(path for path in folder.iterdir() if _is_needed(path.name) and path.is_file())
    return own + graphs_below(folder)


def graphs_below(folder: Path) -> list[Path]:
    """The graphs, with what belongs to them, in the folder `onnx` of a checkpoint that has no weights beside it."""
    return [] if _has_weights(folder) else sorted(folder.glob(GRAPHS_BELOW))


def _has_weights(folder: Path) -> bool:
    return any(path.suffix in _WEIGHTS for path in folder.iterdir())


def _is_needed(name: str) -> bool:
    return not any(fnmatch(name, pattern) for pattern in NOT_NEEDED)


def check_own_files(source: Source, *, every: bool = False) -> None:
    """InputError where the files of a checkpoint's folder are not those that its manifest lists.

    Those that are needed to run it, or `every` one. Weights that are not listed are refused, any other file may lie
    there. A manifest from before there was a list is told so, once.
    """
    if source.manifest is None:
        return
    listed = source.manifest.files
    if listed is None:
        _tell_unlisted(source.path)
        return
    foreign = [path.name for path in own_files(source.path) if path.suffix in _WEIGHTS and path.name not in listed]
    if foreign:
        raise InputError(f"{source.path} holds {foreign[0]}, which its manifest does not list; move it elsewhere")
    check_listed(source.path, listed, (name for name in listed if every or _is_needed(name)))


@functools.cache
def _tell_unlisted(folder: Path) -> None:
    console.info(
        f"{folder} lists no files in its manifest: whether its own have changed is not known; make it again for that"
    )
