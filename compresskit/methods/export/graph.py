"""From a reader of spans in torch to an ONNX graph, and the comparison of the two; and what every export shares."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compresskit import packages
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.export.config import PACKAGES
from compresskit.models.device import resolve_device
from compresskit.models.folder import first_line
from compresskit.models.kinds.onnx_graph import OnnxReader
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import difference
from compresskit.models.task import Batch

if TYPE_CHECKING:
    import onnx_ir

# The largest difference of a logit, in parts of the largest one.
TOLERANCE = 1e-4
# onnxruntime reads a graph of up to 2 GB from one file; beyond that weights are in a second one, under Optimum's name.
ONE_FILE, WEIGHTS = 1_800_000_000, "model.onnx_data"

# Types of models that torch's exporter (of torch 2.13) makes no graph of that takes windows of any length: why not.
NO_GRAPH: Mapping[str, str] = {
    "canine": "has an ONNX graph for windows of one length alone",
    "longformer": "has no ONNX graph, as it looks for the question in what it reads",
    "xlnet": "has no ONNX graph, as torch does not write its masks",
}


class _InOrder(nn.Module):
    """A reader whose inputs come in order and whose outputs are a tuple, as an export wants them."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, tuple(inputs), tuple(outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The named outputs."""
        found = self.model(**dict(zip(self.inputs, inputs, strict=True)))
        return tuple(found[name] for name in self.outputs)


def check_exportable(loaded: TrainableModel) -> None:
    """InputError for a model whose answers would be random, or that has no graph.

    Raises MissingError for a package that is not here.

    Raises UsageError for a model that goes on with a text: an exported Mamba has one length for good, and that of
    attention needs a graph with a past that is not written here.
    """
    if loaded.family.name == "causal":
        raise UsageError(
            f"{loaded.ref} goes on with a text, of which no graph is written yet; --onnx takes readers of spans and "
            "encoder-decoders (T5, BART), and --peft-plain takes the adapter of a Mamba"
        )
    if (why := NO_GRAPH.get(loaded.model.config.model_type)) is not None:
        raise InputError(
            f"a model of type {loaded.model.config.model_type}, such as {loaded.ref}, {why}; take one of another type"
        )
    if loaded.missing_head:
        raise InputError(f"{loaded.ref} has no trained question-answering head; fine-tune it first")
    packages.require(*PACKAGES, what="a graph")


@torch.no_grad()
def write_graph(loaded: TrainableModel, path: Path, probes: Sequence[Batch]) -> float:
    """Write the model's graph, and compare it with the model on `probes`; the largest difference of a logit.

    Batch and length are free. Raises RunFailed where the model has no such graph, or the graph answers otherwise.
    """
    import onnx_ir

    model: nn.Module = loaded.model.eval()
    example = next(batch for batch in probes if len(batch["input_ids"]) > 1)
    outputs = loaded.task.graph_outputs
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    graph = traced(
        loaded.ref,
        _InOrder(model, tuple(example), outputs),
        tuple(example.values()),
        names=(list(example), list(outputs)),
        free={"inputs": tuple(free for _ in example)},
    )
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    onnx_ir.save(graph, path, external_data=WEIGHTS if size > ONE_FILE else None)
    worst = compared(loaded, path, probes)
    check_difference(loaded.ref, worst)
    return worst


def traced(
    ref: str, module: nn.Module, inputs: tuple[Any, ...], *, names: tuple[Sequence[str], Sequence[str]], free: Any
) -> onnx_ir.Model:
    """The graph of a module, by what it computes of `inputs`; `names` are those of inputs and outputs.

    `free` are the axes that are, as torch.export's `dynamic_shapes`. Raises RunFailed, naming the checkpoint `ref`,
    where there is no such graph.
    """
    try:
        with quiet():
            program: Any = torch.onnx.export(
                module.eval(),
                inputs,
                input_names=names[0],
                output_names=names[1],
                dynamic_shapes=free,
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise RunFailed(f"{ref} cannot be exported to ONNX ({first_line(error.__cause__ or error)})") from error
    model: onnx_ir.Model = program.model
    # Where in whose code each node comes from, with this machine's paths: larger than the graph itself.
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    return model


def check_difference(ref: str, worst: float) -> None:
    """RunFailed where a graph's logits are further from the model's than rounding; `worst` in parts of the largest."""
    if not worst <= TOLERANCE:
        raise RunFailed(f"the graph of {ref} differs from the model by {worst:.1g}; it is not written")


@torch.no_grad()
def compared(loaded: TrainableModel, path: Path, probes: Sequence[Batch]) -> float:
    """How far a graph's logits are from the model's, in parts of the largest."""
    graph = OnnxReader(path, loaded.model.config, resolve_device("cpu"), loaded.task.graph_outputs)
    model: Any = loaded.model.eval()
    worst = 0.0
    for batch in probes:
        found, expected = graph(**batch), model(**batch)
        worst = max(worst, *(difference(found[name], expected[name]) for name in loaded.task.graph_outputs))
    return worst


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the exporter and its libraries say of their own inner life is left out."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def save_configs(model: PreTrainedModel, folder: Path) -> None:
    """The configuration, and that of generation where the model writes text."""
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
