"""What the kinds of checkpoints share when they open a folder: family, configuration, weights, tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from compresskit import console
from compresskit.errors import InputError
from compresskit.models.device import resolve_device, resolve_dtype
from compresskit.models.encoder import is_decoder
from compresskit.models.families import family_of_config
from compresskit.models.family import Family
from compresskit.models.fitting import check_fits
from compresskit.models.folder import check_tokenizer, check_weights, opening, read_config, read_tokenizer
from compresskit.models.foreign import check_formats, check_plain
from compresskit.models.int8 import Activations
from compresskit.models.kind import How, Kind
from compresskit.models.kinds.coded import uncoded
from compresskit.models.kinds.int8 import METHOD, set_activations
from compresskit.models.kinds.onnx import SEQ2SEQ
from compresskit.models.kinds.onnx_graph import OnnxReader, method_of_graph
from compresskit.models.kinds.onnx_seq2seq import OnnxSeq2Seq
from compresskit.models.kinds.onnx_session import graph_device
from compresskit.models.kinds.packed import load_quantized, method_of
from compresskit.models.kinds.plain import mended
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.source import Source, own_files
from compresskit.models.tasks.readable import check_separators, reads_types, warn_of_types
from compresskit.text import counted, with_article

# The names under which configurations keep the dropout of attention weights.
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def attention_dropout_of(config: PretrainedConfig) -> float | None:
    """The dropout of attention weights that a configuration names; None where it has none of its own (T5, Mamba)."""
    named = [getattr(config, name) for name in ATTENTION_DROPOUT if hasattr(config, name)]
    return float(named[0] or 0.0) if named else None


def open_full(kind: Kind, source: Source, how: How) -> TrainableModel:
    """A plain checkpoint. Raises InputError where it is damaged, foreign, or of no family of ours."""
    config = read_config(source.path)  # before its weights: it tells of formats whose weights need not be safetensors
    with mended(source.path) as folder:

        def load(family: Family, config: PretrainedConfig) -> tuple[PreTrainedModel, set[str]]:
            check_plain(folder)
            check_fits(family, folder, config)
            model, missing = family.load(folder, config, resolve_dtype(how.dtype))
            check_formats(folder, {name for name, each in model.state_dict().items() if each.is_floating_point()})
            return model, missing

        loaded = _open(kind, source, config, how, load)
    place(loaded.model, How(how.device, how.dtype))
    return loaded


def open_quantized(kind: Kind, source: Source, how: How) -> TrainableModel:
    """A checkpoint of packed weights. Raises InputError where it is damaged, MissingError without its package."""
    config = read_config(source.path)
    with uncoded(source.path) as folder:

        def load(family: Family, config: PretrainedConfig) -> tuple[PreTrainedModel, set[str]]:
            check_fits(family, folder, config)
            return load_quantized(family, folder, config, resolve_dtype(how.dtype), resolve_device(how.device))

        loaded = _open(kind, source, config, how, load)
    loaded.made_by = method_of(loaded.model.config)
    if loaded.made_by == METHOD:
        set_activations(loaded.model, _activations(source))
    return loaded


def _activations(source: Source) -> Activations:
    """How a checkpoint in 8 bits takes its inputs, by its manifest; InputError for a way that is not known."""
    steps = source.manifest.steps if source.manifest is not None else ()
    wanted = steps[-1].config.get("activations", "auto") if steps else "auto"
    known: tuple[Activations, ...] = get_args(Activations)
    for each in known:
        if each == wanted:
            return each
    raise InputError(f"the manifest of {source.ref} has activations {wanted!r}; it can be {', '.join(known)}")


# Opens the weights of a family's configuration; also tells the names of parameters that the folder lacks.
_Load = Callable[[Family, PretrainedConfig], tuple[PreTrainedModel, set[str]]]


def _open(kind: Kind, source: Source, config: PretrainedConfig, how: How, load: _Load) -> TrainableModel:
    family = family_of_config(config, source.ref)
    check_weights(source.path)
    own_dropout = {name: getattr(config, name) for name in ATTENTION_DROPOUT if hasattr(config, name)}
    if how.attention_dropout is not None:
        config.update(dict.fromkeys(own_dropout, how.attention_dropout))
    with console.silenced(), _opening(source.path, config):  # compressed-tensors draws bars
        model, missing = load(family, config)
    model.config.update(own_dropout)  # the modules are built; what is saved is the checkpoint's own value
    missing_head = _check_missing(source.path, config, missing, family.head(model))
    return TrainableModel(model, missing_head=missing_head or source.untrained, **_common(kind, source, family, config))


def open_graph(kind: Kind, source: Source, graphs: Sequence[Path], how: How) -> LoadedModel:
    """One ONNX graph, or the three of an encoder-decoder.

    Raises InputError for graphs that do not answer as their family's task does.
    """
    config = read_config(source.path)
    family = family_of_config(config, source.ref)
    model: OnnxReader | OnnxSeq2Seq
    if family.name == "seq2seq":
        if len(graphs) < len(SEQ2SEQ):
            raise InputError(
                f"{source.path} is {with_article(config.model_type)} model, of which it lacks {' and '.join(SEQ2SEQ)}; "
                "export it again, with its past"
            )
        model = OnnxSeq2Seq(graphs, config, graph_device(how.device))
    else:
        model = OnnxReader(graphs[0], config, graph_device(how.device), family.task.graph_outputs)
    return LoadedModel(model, made_by=method_of_graph(graphs[0]), **_common(kind, source, family, config))


def _common(kind: Kind, source: Source, family: Family, config: PretrainedConfig) -> dict[str, Any]:
    """What every opened folder has, whatever its weights, by the names of `LoadedModel`'s fields."""
    return {
        "tokenizer": tokenizer_of(source.path, family, config),
        "family": family,
        "kind": kind,
        "ref": source.ref,
        "path": source.path,
        "manifest": source.manifest,
        "revision": source.revision,
        "files": own_files(source.path),
    }


def stand_on(kind: Kind, source: Source, base: LoadedModel) -> LoadedModel:
    """The opened `base`, changed by an overlay, as the checkpoint of that overlay."""
    base.kind, base.base = kind, base.path
    base.ref, base.path, base.revision = source.ref, source.path, source.revision
    base.manifest = source.manifest
    base.files = own_files(source.path) + base.files
    return base


@torch.no_grad()
def place(model: PreTrainedModel, how: How) -> None:
    """Bring a model to its device and its numbers, but for modules that it must compute in fp32 where those are fp16.

    Transformers names them for each model, such as `wo` of T5, which overflows (transformers#5651).
    """
    module: nn.Module = model  # transformers wraps `to` in a way that hides its types
    dtype = resolve_dtype(how.dtype)
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else set()
    for name, part in module.named_modules():
        if not kept.intersection(name.split(".")):
            for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)
    module.to(resolve_device(how.device))


def tokenizer_of(folder: Path, family: Family, config: PretrainedConfig) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder. Raises InputError where there is none, or it is another model's."""
    tokenizer = read_tokenizer(folder, family.max_positions(config))
    # A model that goes on with a text never reads padding; a decoder that reads spans does without a token for it.
    unread = family.name == "causal" or (is_decoder(config) and tokenizer.pad_token_id is None)
    check_tokenizer(folder, tokenizer, config, padding=not unread)
    if family.task.prompt is None:
        check_separators(tokenizer, config)
        warn_of_types(str(folder), tokenizer, config)
    if family.task.prompt is None and not reads_types(config):
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    return tokenizer


def _opening(folder: Path, config: PretrainedConfig) -> contextlib.AbstractContextManager[None]:
    return opening(
        f"{folder} does not open as {with_article(config.model_type)} model",
        "it is damaged or foreign: copy or download it again",
    )


def _check_missing(folder: Path, config: PretrainedConfig, missing: set[str], head: set[str]) -> bool:
    """Whether a folder lacks the head; InputError where it lacks other parameters."""
    if other := missing - head:
        raise InputError(
            f"{folder} lacks {counted(len(other), 'tensor')} of {with_article(config.model_type)} model, "
            f"such as {min(other)}; it is damaged or foreign: copy or download it again"
        )
    return bool(missing & head)
