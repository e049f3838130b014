"""Tokens a second that a Mamba writes, and a Transformer of the same size, after long prompts.

    python -m benchmarks.mamba_decode [--shape 130m] [--prompt 2048] [--tokens 64] [--rounds 3] [--batch-sizes 1 16 64]

Random weights of Mamba-130M's and Pythia-160M's shapes, in bf16 on a GPU and fp32 on a CPU; the Mamba also on our scan
in PyTorch, without kernels. All prompts differ, so that nothing is shared. What is timed is what `eval` and `predict`
decode with: reading the prompts, then one token after the other, always the likeliest. Memory is that of the states or
of the keys and values after the last token. The ways take turns, round by round; the best time of each is told.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MambaConfig, MambaForCausalLM

from benchmarks.machine import headline
from benchmarks.mamba_step import synchronize
from compresskit.models.device import resolve_device
from compresskit.models.mamba import kernels, mixer
from compresskit.models.tasks.causal_memory import remembered

SHAPES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "130m": (
        {"hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280},
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
        | {"vocab_size": 50304, "max_position_embeddings": 4096},
    ),
    "tiny": (
        {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 512},
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        | {"vocab_size": 512, "max_position_embeddings": 4096},
    ),
}


def main() -> None:
    """Time all ways in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="130m")
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device = resolve_device(given.device)
    print(headline(device))
    print(f"{given.shape} shape, prompts of {given.prompt} tokens, {given.tokens} written")
    print(f"{'batch':>5} {'model':22} {'prompts, ms':>12} {'a token, ms':>12} {'tokens/s':>10} {'MiB kept':>9}")
    found = models(given.shape, device)
    for batch in given.batch_sizes:
        best: dict[str, tuple[float, float]] = {}
        kept: dict[str, float] = {}
        for _ in range(given.rounds + 1):  # the first warms up
            for name, model in found.items():
                without = mock.patch.object(mixer, "kernels_for", return_value=None)
                with without if "PyTorch" in name else nullcontext():
                    read, wrote, kept[name] = written(model, batch, given.prompt, given.tokens)
                known = best.get(name, (read, wrote))
                best[name] = min(known[0], read), min(known[1], wrote)
                gc.collect()
        for name, (read, wrote) in best.items():
            each = 1e3 * wrote / given.tokens
            rate = batch * given.tokens / wrote
            print(f"{batch:5} {name:22} {1e3 * read:12.1f} {each:12.2f} {rate:10.0f} {kept[name]:9.1f}", flush=True)


def models(shape: str, device: torch.device) -> dict[str, Any]:
    """The models by what they are called in the table."""
    torch.manual_seed(0)
    number = torch.bfloat16 if device.type == "cuda" else torch.float32
    mamba_shape, attention_shape = SHAPES[shape]
    mamba: Any = MambaForCausalLM(MambaConfig(**mamba_shape))
    attention: Any = GPTNeoXForCausalLM(GPTNeoXConfig(**attention_shape))
    for model in (mamba, attention):
        model.eval().to(device, number)
    mixer.use_own_mixers(mamba)
    found = {"Pythia": attention, "Mamba, PyTorch": mamba}
    if kernels.kernels_for(torch.zeros(1, device=device)) is not None:
        found["Mamba, mamba-ssm"] = copy.deepcopy(mamba)  # its own, since steps are kept with a model
    return found


@torch.no_grad()
def written(model: Any, batch: int, prompt: int, tokens: int) -> tuple[float, float, float]:
    """Seconds of reading the prompts and of writing after them, and MiB that are kept."""
    prompts = torch.randint(1, model.config.vocab_size, (batch, prompt)).tolist()
    memory: Any = remembered(model, prompts)
    synchronize(model.device)
    started = time.perf_counter()
    logits = memory._read_prompts()
    synchronize(model.device)
    read = time.perf_counter()
    for _ in range(tokens):
        logits = memory.read(logits.argmax(dim=-1))
    synchronize(model.device)
    ended = time.perf_counter()
    return read - started, ended - read, sum(map(_bytes, memory.cache.layers)) / 2**20


def _bytes(layer: Any) -> int:
    """Of a cache's layer: keys and values, or states."""
    if hasattr(layer, "keys"):
        tensors = [layer.keys, layer.values]
    else:
        tensors = [*layer.conv_states.values(), *layer.recurrent_states.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


if __name__ == "__main__":
    main()
