"""Which way each method takes on this machine, told by the functions that decide it when a method runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from compresskit.errors import CompresskitError
from compresskit.evaluate.settings import EvalSettings
from compresskit.methods.quantize.config import QloraConfig
from compresskit.models.device import resolve_device
from compresskit.models.int8 import arithmetic
from compresskit.models.kinds.bnb import library
from compresskit.models.kinds.onnx_session import graph_device
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from compresskit.models.tasks.span_passes import passes_of
from compresskit.options import options_of
from compresskit.text import one_line
from compresskit.training.arguments import TrainingOptions
from compresskit.training.choices import Choices, choices_of, leaves_out_attention_dropout


@dataclass(frozen=True, slots=True)
class Way:
    """What is computed, and how that is done here."""

    what: str
    how: str


def paths() -> list[Way]:
    """The way of each method; where one cannot be told, why not."""
    ways = {
        "training": _training,
        "attention": _attention,
        "attention dropout": _dropout,
        "Mamba": _mamba,
        "scoring": _scoring,
        "int8 products": lambda: arithmetic(resolve_device("auto"), "auto"),
        "qlora": _qlora,
        "ONNX graphs": _onnx,
    }
    return [Way(what, _told(how)) for what, how in ways.items()]


def _told(how: Callable[[], str]) -> str:
    try:
        return how()
    except CompresskitError as error:
        return one_line(f"not here: {error}")
    except Exception as error:  # a package that is broken raises anything; the others are still told
        return one_line(f"fails: {type(error).__name__}: {error}")


@functools.cache
def _built_in(name: str) -> TrainableModel:
    """A built-in model, where a run would put it by itself."""
    return load_trainable(resolve(name), device=resolve_device("auto").type)


def _choices(name: str) -> Choices:
    """What a training of a built-in model decides."""
    return choices_of(TrainingOptions(model=name), _built_in(name))


def _training() -> str:
    choices = _choices("demo/bert")
    threads = f", threads {choices['threads']}" if "threads" in choices else ""
    return f"on {choices['device']}{threads}, in {choices['numbers']}"


def _attention() -> str:
    told = str(_choices("demo/bert")["attention"])
    if resolve_device("auto").type != "cuda":
        return told
    cuda: Any = torch.backends.cuda
    ways = {"flash": cuda.flash_sdp_enabled(), "memory-efficient": cuda.mem_efficient_sdp_enabled()}
    return f"{told}; {', '.join(way for way, is_on in ways.items() if is_on)}"


def _dropout() -> str:
    out = leaves_out_attention_dropout(TrainingOptions(model="demo/bert"))
    return "left out, so that attention stays fused" if out else "as the model has it"


def _mamba() -> str:
    return f"scan by {_choices('demo/mamba')['scan']}"


def _scoring() -> str:
    dtype = options_of(EvalSettings)["dtype"].default
    makes = passes_of(_built_in("demo/bert").model, graphs=True).makes_graphs
    return f"in {dtype}; " + ("repeated passes as CUDA graphs" if makes else "no CUDA graphs")


def _qlora() -> str:
    where = resolve_device("auto").type
    bits = options_of(QloraConfig)["bits"].default
    native = type(library().cextension.lib).__name__
    code = "its own code is not loaded" if "Error" in native else f"its {'CUDA' if 'Cuda' in native else 'CPU'} code"
    return f"bitsandbytes on {where}, {bits} bits, {code}"


def _onnx() -> str:
    return f"onnxruntime on {graph_device('auto').type}"
