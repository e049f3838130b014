"""Tries of the packages that bring something more."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import tempfile
from collections.abc import Callable
from typing import Any

from compresskit.doctor.tried import Tried, require

# A graph of one node, Identity, that takes and gives two fp32 numbers: made by onnx's helpers, see the test of it.
ONE_NODE = bytes.fromhex(
    "08083a3b0a100a017812017922084964656e74697479120567726170685a0f0a0178120a0a08080112040a020802620f0a01"
    "79120a0a08080112040a02080242040a001011"
)


def bitsandbytes() -> Tried:
    """A matrix packed and unpacked."""
    import torch

    from compresskit.models.kinds.bnb import library

    functional = library().functional
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = torch.linspace(-1, 1, 4096, device=device).view(64, 64)
    packed, state = functional.quantize_4bit(weight, quant_type="nf4")
    apart = float((functional.dequantize_4bit(packed, state) - weight).abs().max())
    require(apart < 0.16, f"4 bits came back {apart:.2g} apart")  # half of NF4's widest step
    codes, scales, _ = functional.int8_vectorwise_quant(weight.half())
    apart = float((codes.float() * scales[:, None].float() / 127 - weight).abs().max())
    require(apart < 0.01, f"8 bits came back {apart:.2g} apart")
    return Tried(f"4 and 8 bits packed and unpacked on {'the GPU' if device == 'cuda' else 'the CPU'}")


def datasets() -> Tried:
    """Two rows."""
    import datasets

    require(datasets.Dataset.from_dict({"a": [1, 2]}).select([1])["a"][0] == 2, "it lost a row")
    return Tried("two rows")


def sentencepiece() -> Tried:
    """A tokenizer that learns and reads."""
    import sentencepiece

    model = io.BytesIO()
    how: dict[str, Any] = {"vocab_size": 12, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["a bc abc cab"] * 4), model_writer=model, **how)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    require(processor.decode(processor.encode("abc")) == "abc", "a text came back changed")
    return Tried("a tokenizer learned")


def protobuf() -> Tried:
    """A message, written and read."""
    from google.protobuf.struct_pb2 import Value

    message = Value(string_value="text")
    require(Value.FromString(message.SerializeToString()) == message, "a message came back changed")
    return Tried("a message written and read")


def bm25s() -> Tried:
    """An index of two texts."""
    from compresskit.data.negatives import Index

    Index(["a red boat", "a green tree"])
    return Tried("an index")


def onnx() -> Tried:
    """A graph, checked."""
    import onnx

    onnx.checker.check_model(onnx.load_from_string(ONE_NODE))
    return Tried("a graph of one node")


def onnxscript() -> Tried:
    """A graph, made simpler."""
    import onnx
    from onnxscript import optimizer

    optimizer.optimize(onnx.load_from_string(ONE_NODE))
    return Tried("a graph of one node")


def onnxruntime() -> Tried:
    """A graph, run."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(ONE_NODE, providers=["CPUExecutionProvider"])
    require(session.run(None, {"x": np.ones(2, np.float32)})[0].tolist() == [1, 1], "a graph is wrong")
    return Tried("a graph of one node")


def matplotlib() -> Tried:
    """A picture."""
    from matplotlib.figure import Figure

    Figure().savefig(io.BytesIO(), format="png")
    return Tried("a picture")


def pandas() -> Tried:
    """A data frame."""
    frame = importlib.import_module("pandas").DataFrame([{"name": "a", "em": 1.0}]).set_index("name")
    require(frame.loc["a", "em"] == 1.0, "a data frame is wrong")
    return Tried("a data frame")


def sacrebleu() -> Tried:
    """BLEU of two texts."""
    from compresskit.evaluate.metrics import Bleu

    return _of_metric(Bleu(), "bleu")


def rouge_score() -> Tried:
    """ROUGE of two texts."""
    from compresskit.evaluate.metrics import Rouge

    return _of_metric(Rouge(), "rouge1")


def _of_metric(metric: Any, name: str) -> Tried:
    metric.add(["a red boat"], "a red boat")
    require(abs(metric.result()[name] - 100) < 1e-6, "the same text is not 100 %")
    return Tried("two texts compared")


def compressed_tensors() -> Tried:
    """A configuration."""
    importlib.import_module("compressed_tensors.quantization").QuantizationConfig(config_groups={})
    return Tried("a configuration")


def pynvml() -> Tried:
    """The driver, asked for its version."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Tried("it loads; there is no driver of NVIDIA here", untried=True)
    return Tried(f"the driver, {pynvml.nvmlSystemGetDriverVersion()}")


def kernels() -> Tried:
    """Both packages of Mamba's kernels, on the GPU, as the models call them."""
    import torch

    from compresskit.models.mamba.kernels import PACKAGES, working

    if not torch.cuda.is_available():
        return Tried("there is no GPU that this torch can use", untried=True)
    if lacking := [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]:
        return Tried(f"it is of use with {' and '.join(lacking)} alone", untried=True)
    working()
    return Tried("a scan and a convolution on the GPU")


def lm_eval() -> Tried:
    """Its import."""
    importlib.import_module("lm_eval.tasks")
    return Tried("loads")


def tensorboard() -> Tried:
    """A figure, written."""
    module = "tensorboardX" if importlib.util.find_spec("tensorboard") is None else "torch.utils.tensorboard"
    with tempfile.TemporaryDirectory() as folder:
        writer = importlib.import_module(module).SummaryWriter(folder)
        writer.add_scalar("a", 1.0)
        writer.close()
        require(bool(os.listdir(folder)), "it wrote no file")
    return Tried("a figure written")


def wandb() -> Tried:
    """A run that goes nowhere."""
    wandb = importlib.import_module("wandb")
    wandb.init(mode="disabled").finish()
    return Tried("a run that goes nowhere")


def mambapy() -> Tried:
    """A scan."""
    import torch

    scan = importlib.import_module("mambapy.pscan").pscan
    ones = torch.ones(1, 4, 2, 2)
    require(float(scan(ones, ones)[0, -1, 0, 0]) == 4.0, "a scan is wrong")
    return Tried("a scan")


def loads(module: str) -> Callable[[], Tried]:
    """A try that imports a module, and no more."""

    def load() -> Tried:
        importlib.import_module(module)
        return Tried("loads")

    return load
