"""From what the user typed (an alias, a Hub id, a folder) to a model in memory."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from compresskit.checkpoint.manifest import Base, Manifest, read_manifest
from compresskit.checkpoint.store import read_safetensors_metadata, sha256_weights, weight_files
from compresskit.errors import InputError, MissingError, UsageError
from compresskit.models import builtin
from compresskit.models.device import resolve_device, resolve_dtype
from compresskit.models.encoder import EncoderFamily
from compresskit.models.family import Family, LoadedModel
from compresskit.models.overlay import apply_overlay

FAMILIES: tuple[Family, ...] = (EncoderFamily(),)
ALIASES: Mapping[str, str] = {"bert": "google-bert/bert-base-uncased"}
BUILT_IN: Mapping[str, Callable[[], Path]] = {"demo/bert": builtin.demo_bert}

# What transformers says while it loads and saves would run through our own lines.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

# What a checkpoint needs from the Hub: configuration, tokenizer and safetensors weights; no other framework's files.
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
# The names under which configurations keep the dropout of attention weights.
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
# Loading reads files: it asks no Hub, and runs (or offers to run) no code that a checkpoint brings along.
NOTHING_FOREIGN: Mapping[str, bool] = {"local_files_only": True, "trust_remote_code": False}
HUB_IGNORED = ["onnx/*", "openvino/*", "coreml/*", "*/*"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint lies: `ref` as typed, its folder, the Hub's revision, and whether its weights are random."""

    ref: str
    path: Path
    revision: str | None = None
    untrained: bool = False


def known_aliases() -> list[str]:
    """All short names that MODEL takes."""
    return [*ALIASES, *BUILT_IN]


def resolve(ref: str, revision: str | None = None) -> Source:
    """Find a checkpoint's folder; a Hub id is downloaded to the Hub's cache, at `revision` or the newest.

    Raises UsageError for an unknown short name, InputError for a folder or Hub id that does not exist, MissingError
    where the Hub cannot be reached.
    """
    if Path(ref).is_dir():
        return Source(ref, Path(ref))
    if ref in BUILT_IN:
        return Source(ref, BUILT_IN[ref](), untrained=True)
    hub_id = ALIASES.get(ref, ref)
    if Path(ref).is_absolute() or ref.startswith((".", "~")) or hub_id.count("/") > 1:
        raise InputError(f"there is no folder {ref}")
    if "/" not in hub_id or (hub_id.startswith("demo/")):
        near = difflib.get_close_matches(ref, known_aliases(), n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"known: {', '.join(known_aliases())}; a Hub id has the form owner/name"
        )
        raise UsageError(f"unknown model {ref!r}; {hint}")
    folder = download(hub_id, revision)
    return Source(ref, folder, revision=folder.name)


def download(hub_id: str, revision: str | None = None) -> Path:
    """The Hub's snapshot of a model, from the cache where it is there.

    Raises MissingError where the Hub cannot be reached, InputError where it has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=HUB_FILES, ignore_patterns=HUB_IGNORED))
    except RepositoryNotFoundError as error:
        raise InputError(
            f"there is no folder {hub_id} here, and the Hub has no such model, or it is private; "
            "check the name, or log in with `hf auth login`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise MissingError(
            f"there is no folder {hub_id} here, and the Hub cannot be reached ({type(error).__name__}); "
            f"where there is a network run `hf download {hub_id} --local-dir DIR`, then give DIR here, or try demo/bert"
        ) from error


def load(ref: str, *, device: str = "auto", dtype: str = "float32") -> LoadedModel:
    """A checkpoint of any kind that compresskit knows, on a device, in evaluation mode.

    Raises UsageError for an unknown name, InputError for a folder that is no checkpoint, is damaged, or is an
    overlay on another base, MissingError where the Hub or the GPU is not there.
    """
    target, number_format = resolve_device(device), resolve_dtype(dtype)
    loaded = load_source(resolve(ref), number_format)
    module: nn.Module = loaded.model  # transformers wraps `to` in a way that hides its types
    module.to(target).eval()
    return loaded


def require_head(loaded: LoadedModel) -> LoadedModel:
    """The same model; InputError where it has no question-answering head, so that its answers would be random."""
    if loaded.missing_head:
        raise InputError(
            f"{loaded.ref} has no trained question-answering head; fine-tune it first: compresskit train {loaded.ref}"
        )
    return loaded


def load_source(
    source: Source, dtype: torch.dtype = torch.float32, attention_dropout: float | None = None
) -> LoadedModel:
    """Open a resolved checkpoint on the CPU; `attention_dropout` replaces the configured one in this process only."""
    manifest = read_manifest(source.path)
    if manifest is not None and manifest.kind == "mask":
        return _load_overlay(source, manifest, dtype, attention_dropout)
    return _load_plain(source, manifest, dtype, attention_dropout)


def _load_plain(
    source: Source, manifest: Manifest | None, dtype: torch.dtype, attention_dropout: float | None
) -> LoadedModel:
    config = _config(source.path)
    family = _family(config, source)
    files = weight_files(source.path)
    if not files:
        raise InputError(f"{source.path} holds no safetensors weights; convert the checkpoint to safetensors first")
    for file in files:
        read_safetensors_metadata(file)
    own_dropout = {name: getattr(config, name) for name in ATTENTION_DROPOUT if hasattr(config, name)}
    if attention_dropout is not None:
        config.update(dict.fromkeys(own_dropout, attention_dropout))
    try:
        model, missing = family.load(source.path, config, dtype)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source.path} does not open as a {config.model_type} model ({str(error).splitlines()[0]}); "
            "it is damaged or foreign: copy or download it again"
        ) from error
    model.config.update(own_dropout)  # the modules are built; what is saved is the checkpoint's own value
    head = family.head(model)
    if missing - head:
        name = sorted(missing - head)[0]
        raise InputError(
            f"{source.path} lacks {len(missing - head)} tensors of a {config.model_type} model, such as {name}; "
            "it is damaged or foreign: copy or download it again"
        )
    tokenizer = _tokenizer(source.path, family, config)
    return LoadedModel(
        model,
        tokenizer,
        family,
        source.ref,
        source.path,
        manifest,
        source.revision,
        missing_head=bool(missing & head) or source.untrained,
        files=_files(source.path),
    )


def _load_overlay(
    source: Source, manifest: Manifest, dtype: torch.dtype, attention_dropout: float | None
) -> LoadedModel:
    if manifest.base is None:
        raise InputError(f"{source.path} is an overlay whose manifest names no base; it is damaged: make it again")
    base = resolve_base(source.path, manifest.base)
    # The base's weights are masked in full precision and converted afterwards, as a merged checkpoint's would be.
    loaded = _load_plain(base, None, torch.float32, attention_dropout)
    apply_overlay(loaded.model, source.path)
    module: nn.Module = loaded.model
    module.to(dtype)
    loaded.ref, loaded.path, loaded.manifest, loaded.base = source.ref, source.path, manifest, base.path
    loaded.missing_head = False
    loaded.files = _files(source.path) + weight_files(base.path)
    return loaded


def resolve_base(overlay: Path, base: Base) -> Source:
    """The base of an overlay: a folder relative to the overlay's, an absolute one, or a Hub id.

    Raises InputError where it is not there, or its weights are not those that the overlay was made on.
    """
    beside = overlay / base.ref
    try:
        source = Source(base.ref, beside) if beside.is_dir() else resolve(base.ref, base.revision)
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


def base_of(source: Source, output: Path) -> Base:
    """How an overlay in `output` refers to its base: a folder by its path from there, so that both can move."""
    digest = sha256_weights(source.path)
    if source.revision is None and not source.untrained:
        return Base(os.path.relpath(source.path.resolve(), output.resolve()), None, digest)
    return Base(ALIASES.get(source.ref, source.ref), source.revision, digest)


def _config(folder: Path) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no checkpoint: it has no config.json")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, **NOTHING_FOREIGN)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}/config.json cannot be read ({str(error).splitlines()[0]})") from error
    return config


def _family(config: PretrainedConfig, source: Source) -> Family:
    for family in FAMILIES:
        if family.owns(config):
            return family
    names = ", ".join(family.name for family in FAMILIES)
    raise InputError(
        f"{source.ref} is a {config.model_type} model, of none of the families that compresskit knows ({names})"
    )


def _tokenizer(folder: Path, family: Family, config: PretrainedConfig) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **NOTHING_FOREIGN)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} holds no tokenizer ({str(error).splitlines()[0]}); copy the files of its base's tokenizer there"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"{folder} has no fast tokenizer (tokenizer.json); convert it with the tokenizers library")
    positions = family.max_positions(config)
    if positions is not None:
        tokenizer.model_max_length = positions
    return tokenizer


def _files(folder: Path) -> list[Path]:
    """Files of a checkpoint folder that are needed to run it: all but the training log."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != "log.jsonl")
