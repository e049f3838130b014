"""From what the user typed (an alias, a Hub id, a folder) to a model in memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from compresskit import console
from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import InputError
from compresskit.models.adapter import inject_adapter
from compresskit.models.device import resolve_device, resolve_dtype
from compresskit.models.encoder import EncoderFamily
from compresskit.models.family import Family, LoadedModel, TrainableModel
from compresskit.models.folder import (
    check_tokenizer,
    check_weights,
    has_tokenizer,
    opening,
    read_config,
    read_tokenizer,
)
from compresskit.models.lstm.auto import register_auto_classes
from compresskit.models.lstm.family import LstmFamily
from compresskit.models.onnx import OnnxReader, method_of_graph, onnx_file, reader_device
from compresskit.models.overlay import apply_overlay
from compresskit.models.quantized import is_quantized, load_quantized, method_of
from compresskit.models.source import Source, base_source, overlay_kind, own_files, resolve

# In this order: the encoders own whatever else transformers has a question-answering head for.
FAMILIES: tuple[Family, ...] = (LstmFamily(), EncoderFamily())
register_auto_classes()

# What transformers says while it loads and saves would run through our own lines.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

# The names under which configurations keep the dropout of attention weights.
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def load(ref: str, *, device: str = "auto", dtype: str = "float32") -> LoadedModel:
    """A checkpoint of any kind that compresskit knows, its own or another tool's, on a device, in evaluation mode.

    `dtype` is that of the weights, but for those that are stored quantized and for ONNX, which brings its own.

    Raises UsageError for an unknown name, InputError for a folder that is no checkpoint, is damaged, or is an
    overlay on another base, MissingError where the Hub, the GPU or a package is not there.
    """
    loaded = _open(resolve(ref), device, dtype)
    loaded.model.eval()
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
) -> TrainableModel:
    """Open a resolved checkpoint on the CPU; `attention_dropout` replaces the configured one in this process only.

    Raises InputError for what cannot be trained, masked or merged: an adapter, quantized weights, ONNX.
    """
    kind = overlay_kind(source.path)
    if kind == "adapter":
        raise InputError(
            f"{source.ref} is an adapter: eval and predict take it; merge it into its base with PEFT first"
        )
    if _graph(source.path) is not None:
        raise InputError(f"{source.ref} is an ONNX graph: eval and predict take it; give what it came from")
    return _load_overlay(source, dtype, attention_dropout) if kind else _load_plain(source, dtype, attention_dropout)


def _open(source: Source, device: str, dtype: str) -> LoadedModel:
    """Open a resolved checkpoint of any kind on a device."""
    kind, graph = overlay_kind(source.path), _graph(source.path)
    if kind == "adapter":
        return _load_adapter(source, device, dtype)
    if kind is None and graph is not None:
        return _load_onnx(source, graph, device, dtype)
    if kind is None and is_quantized(config := read_config(source.path)):
        return _load_quantized(source, config, resolve_dtype(dtype), resolve_device(device))
    target = resolve_device(device)
    loaded = load_source(source, resolve_dtype(dtype))
    module: nn.Module = loaded.model  # transformers wraps `to` in a way that hides its types
    module.to(target)
    return loaded


def _load_plain(source: Source, dtype: torch.dtype, attention_dropout: float | None) -> TrainableModel:
    config = read_config(source.path)
    if is_quantized(config):
        raise InputError(
            f"{source.ref} is quantized ({method_of(config)}): eval and predict take it; give what it came from"
        )
    family = _family(config, source)
    check_weights(source.path)
    own_dropout = {name: getattr(config, name) for name in ATTENTION_DROPOUT if hasattr(config, name)}
    if attention_dropout is not None:
        config.update(dict.fromkeys(own_dropout, attention_dropout))
    with _opening(source.path, config):
        model, missing = family.load(source.path, config, dtype)
    model.config.update(own_dropout)  # the modules are built; what is saved is the checkpoint's own value
    missing_head = _check_missing(source.path, config, missing, family.head(model))
    return TrainableModel(
        model,
        _tokenizer(source.path, family, config),
        family,
        source.ref,
        source.path,
        read_manifest(source.path),
        source.revision,
        missing_head=missing_head or source.untrained,
        files=own_files(source.path),
    )


def _load_overlay(source: Source, dtype: torch.dtype, attention_dropout: float | None) -> TrainableModel:
    base = base_source(source)
    assert base is not None
    # The base's weights are masked in full precision and converted afterwards, as a merged checkpoint's would be.
    loaded = _load_plain(base, torch.float32, attention_dropout)
    apply_overlay(loaded.model, source.path)
    module: nn.Module = loaded.model
    module.to(dtype)
    _stand_on(loaded, source, base)
    loaded.missing_head = False
    return loaded


def _load_adapter(source: Source, device: str, dtype: str) -> LoadedModel:
    """A base, itself of any kind, with a PEFT adapter in its modules."""
    base = base_source(source)
    assert base is not None
    loaded = _open(base, device, dtype)
    if isinstance(loaded.model, OnnxReader):
        raise InputError(
            f"the base {base.ref} of the adapter {source.path} is an ONNX graph; give it a base of torch's"
        )
    head = loaded.family.head(loaded.model)
    loaded.model, loaded.made_by, replaced = inject_adapter(loaded.model, source.path)
    loaded.missing_head = loaded.missing_head and not head <= replaced
    if has_tokenizer(source.path, loaded.tokenizer):
        loaded.tokenizer = _tokenizer(source.path, loaded.family, loaded.model.config)
    _stand_on(loaded, source, base)
    return loaded


def _stand_on(loaded: LoadedModel, source: Source, base: Source) -> None:
    """Make the loaded `base` that of `source`, which lies on it."""
    loaded.ref, loaded.path, loaded.revision = source.ref, source.path, source.revision
    loaded.manifest, loaded.base = read_manifest(source.path), base.path
    loaded.files = own_files(source.path) + loaded.files


def _load_quantized(source: Source, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> LoadedModel:
    family = _family(config, source)
    check_weights(source.path)
    with _opening(source.path, config):
        model, missing = load_quantized(family, source.path, config, dtype, device)
    return LoadedModel(
        model,
        _tokenizer(source.path, family, config),
        family,
        source.ref,
        source.path,
        read_manifest(source.path),
        source.revision,
        missing_head=_check_missing(source.path, config, missing, family.head(model)),
        files=own_files(source.path),
        made_by=method_of(config),
    )


def _load_onnx(source: Source, graph: Path, device: str, dtype: str) -> LoadedModel:
    config = read_config(source.path)
    family = _family(config, source)
    if dtype != "float32":
        console.warn(f"{source.ref} is an ONNX graph, whose numbers stay as they are, whatever --dtype says")
    return LoadedModel(
        OnnxReader(graph, config, reader_device(device)),
        _tokenizer(source.path, family, config),
        family,
        source.ref,
        source.path,
        read_manifest(source.path),
        source.revision,
        files=own_files(source.path),
        made_by=method_of_graph(graph),
    )


def _graph(folder: Path) -> Path | None:
    """The ONNX file of a folder that has no weights of torch's."""
    return None if any(folder.glob("*.safetensors")) else onnx_file(folder)


def _tokenizer(folder: Path, family: Family, config: PretrainedConfig) -> PreTrainedTokenizerFast:
    tokenizer = read_tokenizer(folder, family.max_positions(config))
    check_tokenizer(folder, tokenizer, config)
    return tokenizer


def _opening(folder: Path, config: PretrainedConfig) -> contextlib.AbstractContextManager[None]:
    return opening(
        f"{folder} does not open as a {config.model_type} model",
        "it is damaged or foreign: copy or download it again",
    )


def _check_missing(folder: Path, config: PretrainedConfig, missing: set[str], head: set[str]) -> bool:
    """Whether a folder lacks the head; InputError where it lacks other parameters."""
    if other := missing - head:
        raise InputError(
            f"{folder} lacks {len(other)} tensors of a {config.model_type} model, such as {min(other)}; "
            "it is damaged or foreign: copy or download it again"
        )
    return bool(missing & head)


def family_of(source: Source) -> Family:
    """The family of a checkpoint, by its configuration alone; InputError where none of ours owns it."""
    return _family(read_config(source.path), source)


def _family(config: PretrainedConfig, source: Source) -> Family:
    for family in FAMILIES:
        if family.owns(config):
            return family
    names = ", ".join(family.name for family in FAMILIES)
    raise InputError(
        f"{source.ref} is a {config.model_type} model, of none of the families that compresskit knows ({names})"
    )
