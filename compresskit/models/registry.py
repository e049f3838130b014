"""From what the user typed (an alias, a Hub id, a folder) to a model in memory."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from torch import Tensor, nn

from compresskit.checkpoint.finite import first_not_finite
from compresskit.errors import InputError
from compresskit.models.kind import How, Kind, instead_of
from compresskit.models.kinds import checked_base, kind_of, require_packages
from compresskit.models.kinds.int8 import METHOD
from compresskit.models.kinds.quantized import QuantizedKind
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.source import Source, resolve


def load(ref: str, *, device: str = "auto", dtype: str = "float32") -> LoadedModel:
    """A checkpoint of any kind that compresskit knows, its own or another tool's, on a device, in evaluation mode.

    `dtype` is that of the weights, but for those that are stored quantized and for ONNX, which brings its own.

    Raises UsageError for an unknown name, InputError for a folder that is not a checkpoint, is damaged, or is an
    overlay on another base, MissingError where the Hub, the GPU or a package is not there.
    """
    loaded = open_source(resolve(ref), How(device, dtype))
    loaded.model.eval()
    return loaded


def open_source(source: Source, how: How) -> LoadedModel:
    """Open a resolved checkpoint of any kind, its base first. Raises the errors of `load`."""
    require_packages(source)
    kind, below = kind_of(source), checked_base(source)
    base = open_source(below, kind.base_opened(how)) if below is not None else None
    return _opened(kind, source, base, how)


def _opened(kind: Kind, source: Source, base: LoadedModel | None, how: How) -> LoadedModel:
    """A checkpoint on its opened base. Raises InputError where a weight is not finite: every answer would be noise."""
    loaded = kind.open(source, base, how)
    name = first_not_finite(_stored(loaded.model)) if isinstance(loaded.model, nn.Module) else None
    if name is not None:
        other = ", or give another --dtype" if how.dtype == "float16" else ""
        raise InputError(f"{source.ref} has weights that are not numbers ({name}); make it again{other}")
    return loaded


def _stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters, and the buffers that are saved with it (of the others a mask may hold infinities).

    What bitsandbytes packed in 4 bits is left out: it may be kept as floats, of which the bytes alone mean something.
    """
    for prefix, module in model.named_modules():
        unsaved = module._non_persistent_buffers_set
        buffers = ((name, b) for name, b in module.named_buffers(recurse=False) if name not in unsaved)
        for name, tensor in (*module.named_parameters(recurse=False), *buffers):
            if getattr(tensor, "quant_state", None) is None:
                yield f"{prefix}.{name}".lstrip("."), tensor


def load_trainable(source: Source, attention_dropout: float | None = None, device: str = "cpu") -> TrainableModel:
    """Open a resolved checkpoint in fp32 on a device, to be trained, masked or adapted.

    Raises InputError where a checkpoint of its kind cannot be.
    """
    kind = kind_of(source)
    if not kind.trainable:
        raise InputError(f"{source.ref} is of kind {kind.name}: {instead_of(kind, source.ref)}")
    return _in_torch(open_source(source, How(device, attention_dropout=attention_dropout)))


def load_whole(source: Source) -> TrainableModel:
    """Open a resolved checkpoint with all that it stands on in fp32 on the CPU, to be written anew.

    An adapter of packed weights is put on those that they were packed from. Raises InputError where there are none
    that can be written anew (a graph, another tool's packed weights).
    """
    below = whole_base(source)
    base = load_whole(below) if below is not None else None
    return _in_torch(_opened(kind_of(source), source, base, How()))


def whole_base(source: Source) -> Source | None:
    """What an overlay stands on, or where that is packed what it was packed from; None for what stands alone.

    Raises InputError where it is not there, is another one, or does not tell what it was packed from.
    """
    require_packages(source)
    below = checked_base(source)
    if below is not None and isinstance(packing := kind_of(below), QuantizedKind):
        return packing.packed_from(below)
    return below


def _in_torch(loaded: LoadedModel) -> TrainableModel:
    if not isinstance(loaded, TrainableModel):
        raise InputError(f"{loaded.ref} is of kind {loaded.kind.name}: {instead_of(loaded.kind, loaded.ref)}")
    return loaded


def require_head(loaded: LoadedModel) -> LoadedModel:
    """The same model; InputError where it has no question-answering head, so that its answers would be random."""
    if loaded.missing_head:
        raise InputError(
            f"{loaded.ref} has no trained question-answering head; fine-tune it first: {_training_of(loaded)}"
        )
    return loaded


def _training_of(loaded: LoadedModel) -> str:
    """The commands that train a head: on weights that another package packed, an adapter's; else all of the weights."""
    ref = shlex.quote(loaded.ref)
    if loaded.kind.name == "quantized" and loaded.made_by != METHOD:
        return f"compresskit lora {ref}"
    if loaded.kind.name in ("full", "mask"):
        return f"compresskit train {ref}"
    merged = shlex.quote(loaded.ref.rstrip("/") + "-merged")
    return f"compresskit merge {ref} && compresskit train {merged}"
