"""A training step of a Mamba by scan and method, and which adapters get a gradient: ours beside PEFT as shipped.

    python -m benchmarks.mamba_step [--shape 130m] [--batch-size 8] [--length 512] [--steps 10] [--scans NAME …]

The model has Mamba-130M's shape and random weights. A step is a forward and a backward pass of the loss over all
tokens, and AdamW's step; in bf16 autocast on a GPU, fp32 on a CPU. Adapters have rank 8: in_proj, x_proj and out_proj
of ours, in_proj and x_proj of PEFT's, since it refuses out_proj. The scans are mamba-ssm's kernels where they run, ours
in PyTorch, mambapy's where it is installed, and where it is named transformers' loop, which takes some 10 s a step.
Memory is the peak that tensors take. Coverage is tensors of adapters with a gradient that is not zero, of all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import MambaConfig, MambaForCausalLM
from transformers.models.mamba import modeling_mamba
from transformers.utils.import_utils import is_mambapy_available

from benchmarks.machine import headline
from compresskit.models.device import resolve_device
from compresskit.models.kinds.bnb import compute_in, follow_autocast, keep_in_place, move, pack
from compresskit.models.mamba import kernels, mixer
from compresskit.models.mamba.adapters import put_adapters

SHAPES: Mapping[str, Mapping[str, int]] = {
    "130m": {"hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 512},
}
RANK, WARM_UP = 8, 3
SCANS = ("mamba-ssm", "ours", "mambapy", "loop")
METHODS = ("full", "LoRA", "QLoRA, 4 bits")
# The functions of transformers' mixer that are kernels where those are installed.
FUNCTIONS = (
    "mamba_inner_fn",
    "mamba_selective_scan",
    "mamba_selective_state_update",
    "causal_conv1d_fn",
    "causal_conv1d_update",
)


def main() -> None:
    """Time all ways, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="130m")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--scans", nargs="+", choices=SCANS, default=SCANS[:-1])
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    device = resolve_device(given.device)
    print(headline(device))
    print(f"Mamba of {given.shape} shape, batches of {given.batch_size} x {given.length}")
    print(f"{'scan':14} {'method':15} {'whose':16} {'ms/step':>9} {'range':>17} {'GiB':>7}  coverage")
    for scan, whose, method in ways(device, given.scans):
        try:
            print(f"{scan:14} {method:15} {whose:16} {measured(scan, whose, method, given, device)}", flush=True)
        except Exception as error:  # what cannot be trained at all is a row too
            print(f"{scan:14} {method:15} {whose:16} fails: {str(error).splitlines()[0][:70]}", flush=True)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def ways(device: torch.device, scans: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Scan, whose adapters, and method; of those scans that are here."""
    here = {"ours", "loop"} | ({"mambapy"} if is_mambapy_available() else set())
    if kernels.kernels_for(torch.zeros(1, device=device)) is not None:
        here.add("mamba-ssm")
    for scan in scans:
        if scan in here:
            yield from ((scan, "ours", method) for method in METHODS)
            if scan in ("mamba-ssm", "mambapy"):
                yield from ((scan, "PEFT as shipped", method) for method in METHODS[1:])


def measured(scan: str, whose: str, method: str, given: argparse.Namespace, device: torch.device) -> str:
    """Milliseconds of a step, its range, memory and coverage, as a part of a line."""
    model = made(scan, whose, method, given.shape, device)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4)
    tokens = torch.randint(1, SHAPES[given.shape]["vocab_size"], (given.batch_size, given.length), device=device)
    steps, skipped = (1, 1) if scan == "loop" else (given.steps, WARM_UP)
    times: list[float] = []
    covered: dict[str, tuple[int, int]] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with on(scan, whose):
        for number in range(skipped + steps):
            taken = step(model, optimizer, tokens)
            if number >= skipped:
                times.append(1e3 * taken)
            covered = coverage(model) or covered
            optimizer.zero_grad(set_to_none=True)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
    told = ", ".join(f"{name} {with_gradient}/{count}" for name, (with_gradient, count) in covered.items())
    span = f"{min(times):.1f} to {max(times):.1f}"
    return f"{statistics.median(times):9.1f} {span:>17} {peak:7.2f}  {told}"


def step(model: Any, optimizer: torch.optim.Optimizer, tokens: torch.Tensor) -> float:
    """Seconds of one step; its gradients stay."""
    synchronize(tokens.device)
    started = time.perf_counter()
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=tokens.is_cuda):
        loss = model(tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    optimizer.step()
    synchronize(tokens.device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def coverage(model: nn.Module) -> dict[str, tuple[int, int]]:
    """For each adapted layer's name, how many of its adapters' B have a gradient that is not zero, and of how many."""
    found: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            layer = name.partition(".lora_B.")[0].rpartition(".")[2]
            with_gradient, count = found.get(layer, (0, 0))
            has = parameter.grad is not None and bool(parameter.grad.any())
            found[layer] = with_gradient + has, count + 1
    return found


def made(scan: str, whose: str, method: str, shape: str, device: torch.device) -> Any:
    """A model in training mode, with what learns."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {**SHAPES[shape], "use_mambapy": scan == "mambapy"}
    model: Any = MambaForCausalLM(MambaConfig(**settings))
    if "bits" in method:
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        pack(model, [name for name in names if not name.endswith(("lm_head", "dt_proj"))], 4)
        keep_in_place(model)
        if device.type == "cuda":
            compute_in(model, torch.bfloat16)
        follow_autocast(model)
        move(model, device)
    model.to(device)
    if scan in ("mamba-ssm", "ours") and whose == "ours":
        mixer.use_own_mixers(model)
    if method != "full":
        if whose == "ours":
            put_adapters(model, rank=RANK, alpha=2 * RANK)
        else:
            targets = ["in_proj", "x_proj"]
            model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets))
    return model.train()


@contextlib.contextmanager
def on(scan: str, whose: str) -> Iterator[None]:
    """Compute with that scan, where the machine would take another."""
    with contextlib.ExitStack() as stack:
        if scan == "ours":
            stack.enter_context(mock.patch.object(mixer, "kernels_for", return_value=None))
        elif scan in ("mambapy", "loop"):
            for name in FUNCTIONS:
                plain = getattr(getattr(modeling_mamba, name), "__wrapped__", getattr(modeling_mamba, name))
                stack.enter_context(mock.patch.object(modeling_mamba, name, plain))
        yield


if __name__ == "__main__":
    main()
