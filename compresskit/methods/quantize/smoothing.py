"""Smoothing: outliers among the inputs of a layer move into its weights (SmoothQuant, Xiao et al., arXiv 2211.10438).

A channel of the inputs is divided by a number, and the column of the weights that reads it is multiplied by it. The
division goes into what computes the channel: a norm that nothing else reads, or the rows of a linear layer, where all
that lies between it and the inputs lets a factor through. So the model computes the same, with inputs that 8 bits keep
better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compresskit import console
from compresskit.methods.quantize.sensitivity import largest_inputs, sensitivities
from compresskit.models.int8 import SMALLEST, input_scale
from compresskit.models.kinds import int8
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import difference, logits
from compresskit.models.task import Batch

# How far logits may be off where nothing should change, in parts of the largest: fp32's rounding.
TOLERANCE = 1e-4
# Which part of the outliers the weights take over: the half, as in the paper.
ALPHA = 0.5


@dataclass(frozen=True, slots=True)
class Fold:
    """Layers that read the same channels, `readers`, and what computes these, `source`: a norm or a linear layer."""

    source: str
    readers: tuple[str, ...]


def folds(model: PreTrainedModel) -> list[Fold]:
    """Where a model's channels can be scaled without changing what it computes.

    A source is a norm that is read by linear layers alone, as T5's are (BERT's norms are read by the sums around its
    sublayers too); the values of an attention, whose sums they are; what a ReLU or a product with a gate lets through.
    """
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    found = [Fold(source, readers) for source, readers in (*_inner(linear, model), *_after_norms(linear, model))]
    return [
        fold for fold in found if all(reader in linear and _fits(model, fold.source, reader) for reader in fold.readers)
    ]


def _fits(model: PreTrainedModel, source: str, reader: str) -> bool:
    """Whether a layer has a column for each channel of a source: fewer values than heads are shared among them."""
    return len(model.get_parameter(f"{source}.weight")) == model.get_parameter(f"{reader}.weight").shape[1]


# The value projection of an attention by its name, and the layer that reads the sums of its values.
_VALUES = (
    (r"attention\.self\.value$", "attention.output.dense"),
    (r"attention\.v_lin$", "attention.out_lin"),
    (r"attn\.v_proj$", "attn.out_proj"),
    (r"Attention\.v$", "Attention.o"),
)


def _inner(linear: set[str], model: PreTrainedModel) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in sorted(linear):
        for pattern, reader in _VALUES:
            if re.search(pattern, name):
                yield name, (re.sub(pattern, reader, name),)
        stem, _, own = name.rpartition(".")
        if own == "wi_1" or (own == "wi" and getattr(model.config, "dense_act_fn", None) == "relu"):
            yield name, (f"{stem}.wo",)


# T5's layers that read the norm of their own sublayer.
_AFTER_NORM = r"\.(SelfAttention\.[qkv]|EncDecAttention\.q|wi|wi_[01])$"


def _after_norms(linear: set[str], model: PreTrainedModel) -> Iterator[tuple[str, tuple[str, ...]]]:
    """T5's: each norm stands before one sublayer; the encoder's last one is read by all cross-attentions."""
    crossing: list[str] = []
    for norm, _ in model.named_modules():
        sublayer, _, own = norm.rpartition(".")
        if own != "layer_norm" or ".block." not in norm:
            continue
        inside = [name for name in sorted(linear) if name.startswith(f"{sublayer}.")]
        crossing += [name for name in inside if re.search(r"\.EncDecAttention\.[kv]$", name)]
        if readers := [name for name in inside if re.search(_AFTER_NORM, name)]:
            yield norm, tuple(readers)
    if crossing:
        yield "encoder.final_layer_norm", tuple(crossing)


def factors(model: PreTrainedModel, fold: Fold, inputs: Mapping[str, Tensor]) -> Tensor:
    """What each channel of a fold is divided by, (channels,): largest input ** α / largest weight ** (1 - α)."""
    weights = [model.get_parameter(f"{name}.weight").detach() for name in fold.readers]
    largest = torch.stack([inputs[name] for name in fold.readers]).amax(0)
    columns = torch.stack([weight.abs().amax(0).float() for weight in weights]).amax(0)
    found = largest**ALPHA / columns.clamp(min=SMALLEST) ** (1 - ALPHA)
    # A channel that was never seen, or that nothing reads, stays.
    return torch.where((largest > 0) & (columns > 0), found.clamp(min=SMALLEST), 1.0)


@torch.no_grad()
def _scale(model: PreTrainedModel, fold: Fold, by: Tensor, inputs: dict[str, Tensor]) -> None:
    """Divide the channels of a fold by numbers, and multiply what reads them; `inputs` tells of it."""
    source = model.get_submodule(fold.source)
    for parameter in (source.weight, getattr(source, "bias", None)):
        if isinstance(parameter, Tensor):
            parameter.div_(by if parameter.ndim == 1 else by[:, None])
    for name in fold.readers:
        model.get_parameter(f"{name}.weight").mul_(by)
        inputs[name] = inputs[name] / by


def pays(fold: Fold, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether the readers of a fold cost less after it was scaled than before, by the names of their weights."""
    weights = [f"{name}.weight" for name in fold.readers]
    return sum(after[name] for name in weights) < sum(before[name] for name in weights)


@dataclass(frozen=True, slots=True)
class Smoothed:
    """What smoothing leaves: the `costs` of weights, and the largest `inputs` of layers by channel.

    So many `folds` of the `possible` ones paid.
    """

    costs: Mapping[str, float]
    inputs: Mapping[str, Tensor]
    folds: int
    possible: int

    def told(self) -> Mapping[str, int]:
        """The figures for the manifest, which are said, too."""
        console.info(f"outliers moved into the weights at {self.folds} of {self.possible} places")
        return {"smoothed": self.folds, "could_be_smoothed": self.possible}


def _that_change_nothing(loaded: TrainableModel, inputs: Mapping[str, Tensor]) -> list[Fold]:
    """The folds of layers whose `inputs` are known, without those that change what the model computes.

    Some models have the names of others, and read a channel once more or bend it.
    """
    model, before = loaded.model, logits(loaded)
    found = [fold for fold in folds(model) if inputs.keys() >= set(fold.readers)]

    def same(some: Sequence[Fold]) -> bool:
        by, read = [factors(model, fold, inputs) for fold in some], dict(inputs)
        for fold, each in zip(some, by, strict=True):
            _scale(model, fold, each, read)
        worst = difference(logits(loaded), before)
        for fold, each in zip(some, by, strict=True):
            _scale(model, fold, 1 / each, read)
        return worst <= TOLERANCE

    if same(found):
        return found
    left = [fold for fold in found if same([fold])]
    console.warn(f"outliers stay at {len(found) - len(left)} places, where {loaded.ref} would compute otherwise")
    return left


def smooth(loaded: TrainableModel, names: Sequence[str], batches: Sequence[Batch], *, static: bool) -> Smoothed:
    """Scale the folds of a model where its loss in 8 bits gains less so.

    `names` are the weights that will be in 8 bits; with `static` the layers that read them have one scale of inputs.
    """
    model = loaded.model
    layers, own = int8.linear_layers(model, names), {name.rpartition(".")[0] for name in names}
    inputs = largest_inputs(loaded, layers, batches)

    def costs() -> dict[str, float]:
        # A layer that shares its weight gets no scale of its own.
        scales = {name: input_scale(inputs[name]) if static and name in own else None for name in layers}
        return sensitivities(loaded, names, batches, scales)

    before, found = costs(), _that_change_nothing(loaded, inputs)
    by = [factors(model, fold, inputs) for fold in found]
    for fold, each in zip(found, by, strict=True):
        _scale(model, fold, each, inputs)
    after, count = costs() if found else before, len(found)
    for fold, each in zip(found, by, strict=True):
        if not pays(fold, before, after):
            _scale(model, fold, 1 / each, inputs)
            after |= {f"{name}.weight": before[f"{name}.weight"] for name in fold.readers}
            count -= 1
    return Smoothed(after, inputs, count, len(found))
