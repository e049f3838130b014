"""Time and memory of weights in few bits on a GPU: fp32, bf16, our int8, bitsandbytes' 8 and 4 bits.

    python -m benchmarks.int8_on_gpu [--rounds 9] [--layers 12]

A BERT of base shape with random weights reads windows of 384 tokens, one and 32 at a time; a T5 of base shape writes 16
tokens for one and for 32 prompts of 200. All that is not in few bits is in bf16, but in the row fp32. The ways take
turns; medians, and the ratios of medians. Memory is what the weights take, and the peak of a pass above that.
"""

from __future__ import annotations

import argparse
import copy
import gc
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import BertConfig, BertForQuestionAnswering, T5Config, T5ForConditionalGeneration

from benchmarks.int8_speed import LENGTH, PROMPT, T5_BASE, WRITTEN, in_8_bits
from benchmarks.machine import headline
from compresskit.models.encoder import EncoderFamily
from compresskit.models.family import Family
from compresskit.models.int8 import INT8, Int8Embedding
from compresskit.models.kinds.bnb import compute_in, move, pack
from compresskit.models.kinds.full import FullKind
from compresskit.models.linear import linear_layers
from compresskit.models.loaded import TrainableModel
from compresskit.models.seq2seq import Seq2SeqFamily

CUDA = torch.device("cuda")
BATCHES = (1, 32)
WAYS = ("fp32", "bf16", "int8", "int8 weights alone", "bitsandbytes 8", "bitsandbytes 4")


@dataclass
class Way:
    """A model on the GPU, the bytes of its weights, and what was measured of a pass."""

    model: Any
    weights: int
    peak: int = 0
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Time both models at both sizes of a batch, and print milliseconds, ratios and megabytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", type=int, default=12)
    given = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at every product that it casts to fp16
    print(headline(CUDA))
    torch.manual_seed(0)
    bert = BertForQuestionAnswering(BertConfig(num_hidden_layers=given.layers)).eval()
    shape: dict[str, Any] = {**T5_BASE, "num_layers": given.layers, "vocab_size": 32128, "decoder_start_token_id": 0}
    t5 = T5ForConditionalGeneration(T5Config(**shape)).eval()
    told: tuple[tuple[str, Any, Family, Callable[[Any, int], Callable[[], object]]], ...] = (
        (f"BERT-base's shape, windows of {LENGTH}, one pass", bert, EncoderFamily(), reading),
        (f"T5-base's shape, {WRITTEN} tokens for prompts of {PROMPT}, greedy", t5, Seq2SeqFamily(), writing),
    )
    for title, model, family, task in told:
        ways = {name: made(name, model, family) for name in WAYS}
        for batch in BATCHES:
            print(f"\n{title}, batch {batch}")
            with torch.inference_mode():
                measure(ways, task, batch, given.rounds)
            table(ways)
        ways.clear()
        gc.collect()


def reading(model: Any, batch: int) -> Callable[[], object]:
    """A pass of a reader."""
    ids = torch.randint(1000, 30000, (batch, LENGTH), device=CUDA)
    return lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids))


def writing(model: Any, batch: int) -> Callable[[], object]:
    """Greedy decoding of a fixed number of tokens."""
    ids = torch.randint(5, 32000, (batch, PROMPT), device=CUDA)
    mask = torch.ones_like(ids)
    return lambda: model.generate(
        ids, attention_mask=mask, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False
    )


def made(name: str, model: Any, family: Family) -> Way:
    """A copy of a model on the GPU, kept in the way of that name."""
    before = torch.cuda.memory_allocated()
    other = copy.deepcopy(model)
    if name.startswith("int8"):
        in_8_bits(other, model, family, "none" if name.endswith("alone") else "auto")
        other.to(torch.bfloat16)
        for layer in other.modules():
            if isinstance(layer, INT8):
                layer.weight_scale = layer.weight_scale.float()  # as they are loaded
            if isinstance(layer, Int8Embedding):
                layer.dtype = torch.bfloat16
        other.to(CUDA)
    elif name.startswith("bitsandbytes"):
        loaded = TrainableModel(other, None, family, FullKind(), "", None, None)  # type: ignore[arg-type]
        bits = int(name[-1])
        pack(other, [each for each in linear_layers(loaded) if bits == 4 or not each.endswith(".wo")], bits)
        for parameter in other.parameters():
            if parameter.is_floating_point() and getattr(parameter, "quant_state", None) is None:
                parameter.data = parameter.data.to(torch.bfloat16)
        compute_in(other, torch.bfloat16)
        move(other, CUDA)
    else:
        other.to(CUDA, torch.float32 if name == "fp32" else torch.bfloat16)
    return Way(other.eval(), torch.cuda.memory_allocated() - before)


def measure(ways: Mapping[str, Way], task: Callable[[Any, int], Callable[[], object]], batch: int, rounds: int) -> None:
    """Fill in seconds and peak of each way; two rounds before are not counted."""
    for way in ways.values():
        way.seconds.clear()
    for number in range(rounds + 2):
        for way in ways.values():
            run = task(way.model, batch)
            torch.cuda.synchronize()
            held = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if number >= 2:
                way.seconds.append(time.perf_counter() - start)
            way.peak = torch.cuda.max_memory_allocated() - held


def table(ways: Mapping[str, Way]) -> None:
    """Milliseconds, their range, ratio to fp32, and megabytes."""
    first = statistics.median(ways["fp32"].seconds)
    for name, way in ways.items():
        typical, low, high = (1e3 * value for value in (statistics.median(way.seconds), *extremes(way.seconds)))
        memory = f"weights {way.weights / 1e6:7.1f} MB, a pass {way.peak / 1e6:7.1f} MB more"
        print(
            f"{name:20} {typical:9.2f} ms  ({low:.2f} to {high:.2f})  {1e-3 * typical / first:6.3f} of fp32; {memory}"
        )


def extremes(values: list[float]) -> tuple[float, float]:
    """The least and the largest."""
    return min(values), max(values)


if __name__ == "__main__":
    main()
