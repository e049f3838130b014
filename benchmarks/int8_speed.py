"""A forward pass with weights in 8 bits against fp32, and against onnxruntime's int8 of the same model.

    python -m benchmarks.int8_speed [--threads 2] [--rounds 9] [--without-vnni]

A BERT of base shape with random weights reads 8 windows of 384 tokens; a T5 of base shape writes tokens one at a time
for one prompt of 200 tokens. The ways take turns; medians, and the ratios of medians. onnxruntime's int8 is dynamic,
per channel, of an export of the same model (packages onnx, onnxscript, onnxruntime); without them it is left out.
`--without-vnni` computes as a CPU that lacks it: oneDNN is held to AVX-512 without VNNI (fp32 is not its), and
onnxruntime, which cannot be held so, is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForQuestionAnswering, T5Config, T5ForConditionalGeneration

from benchmarks.machine import headline
from compresskit.models.encoder import EncoderFamily
from compresskit.models.kinds import int8
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import TrainableModel
from compresskit.models.seq2seq import Seq2SeqFamily

BATCH, LENGTH = 8, 384
PROMPT, WRITTEN = 200, 16
T5_BASE: Mapping[str, int] = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}


def main() -> None:
    """Time both models, and print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--without-vnni", action="store_true")
    given = parser.parse_args()
    if given.without_vnni:
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"  # read at its first product
        torch.cpu._is_vnni_supported = lambda: False
    torch.set_num_threads(given.threads)
    print(headline(torch.device("cpu")))
    print(f"{given.threads} threads; VNNI: {torch.cpu._is_vnni_supported()}")
    with torch.inference_mode():
        print(f"\nBERT-base's shape, {given.layers} layers, {BATCH} x {LENGTH}, one pass")
        table(taken(encoders(given.layers, given.threads), given.rounds))
        print(f"\nT5-base's shape, {given.layers} layers, {WRITTEN} tokens for one prompt of {PROMPT}, greedy")
        table(taken(writers(given.layers), given.rounds))


def encoders(layers: int, threads: int) -> dict[str, Callable[[], object]]:
    """One pass of each way."""
    torch.manual_seed(0)
    model = BertForQuestionAnswering(BertConfig(num_hidden_layers=layers)).eval()
    ids = torch.randint(1000, 30000, (BATCH, LENGTH))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    ways: dict[str, Callable[[], object]] = {"fp32": lambda: model(**inputs)}
    for name, activations in (("int8", "int8"), ("int8 weights alone", "none")):
        other = in_8_bits(BertForQuestionAnswering(model.config).eval(), model, EncoderFamily(), activations)
        ways[name] = lambda other=other: other(**inputs)  # type: ignore[misc]
    if torch.cpu._is_vnni_supported() and all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        ways["onnxruntime int8"] = graph(model, inputs, threads)
    return ways


def writers(layers: int) -> dict[str, Callable[[], object]]:
    """Greedy decoding of each way, to a fixed length."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {**T5_BASE, "num_layers": layers, "vocab_size": 32128, "decoder_start_token_id": 0}
    config = T5Config(**shape)
    model = T5ForConditionalGeneration(config).eval()
    ids = torch.randint(5, 32000, (1, PROMPT))

    def writing(writer: Any) -> Callable[[], object]:
        return lambda: writer.generate(ids, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False)

    ways = {"fp32": writing(model)}
    for name, activations in (("int8", "int8"), ("int8 weights alone", "none")):
        other = T5ForConditionalGeneration(config).eval()
        ways[name] = writing(in_8_bits(other, model, Seq2SeqFamily(), activations))
    return ways


def in_8_bits(other: Any, model: nn.Module, family: Any, activations: Any) -> Any:
    """The other model with the weights of a model, in 8 bits."""
    other.load_state_dict(model.state_dict())
    loaded = TrainableModel(other, None, family, FullKind(), "", None, None)  # type: ignore[arg-type]
    int8.pack(other, int8.quantizable(loaded))
    int8.set_activations(other, activations)
    return other


def graph(model: nn.Module, inputs: Mapping[str, torch.Tensor], threads: int) -> Callable[[], object]:
    """A pass of onnxruntime's dynamic int8 of an export."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as name:
        whole, packed = Path(name, "model.onnx"), Path(name, "int8.onnx")
        with torch.no_grad():
            program: Any = torch.onnx.export(model, (), kwargs=dict(inputs), dynamo=True, verbose=False)
        program.save(whole)
        quantize_dynamic(whole, packed, per_channel=True, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(packed, options, providers=["CPUExecutionProvider"])
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    return lambda: session.run(None, feeds)


def taken(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; two rounds before are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def table(seconds: Mapping[str, list[float]]) -> None:
    """Milliseconds, their range, and the ratio to fp32."""
    first = statistics.median(seconds["fp32"])
    for name, times in seconds.items():
        typical, low, high = (1e3 * value for value in (statistics.median(times), min(times), max(times)))
        print(f"{name:20} {typical:9.1f} ms  ({low:.1f} to {high:.1f})  {1e-3 * typical / first:6.3f} of fp32")


if __name__ == "__main__":
    main()
