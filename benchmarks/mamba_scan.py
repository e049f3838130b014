"""The selective scan of one Mamba layer, forward and backward: ours by chunk length, mambapy's, transformers' own loop.

    python -m benchmarks.mamba_scan [--batch-size 1] [--length 512] [--rounds 5] [--loop] [--device cpu]

The layer has Mamba-130M's shape: 1,536 channels of 16 states, random numbers in fp32. The ways take turns in one
process, round by round; the best time of each is told. mambapy's scan runs where it is installed, the loop with --loop:
it takes up to a minute a round.
"""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.mamba.modeling_mamba import mamba_selective_scan
from transformers.utils.import_utils import is_mambapy_available

from benchmarks.machine import headline
from compresskit.models.device import resolve_device
from compresskit.models.mamba.scan import selective_scan

CHANNELS, STATES = 1536, 16
CHUNKS = (8, 16, 32, 64, 128)

Scan = Callable[..., Tensor]


def main() -> None:
    """Time all ways in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device = resolve_device(given.device)
    print(headline(device))
    print(f"{given.batch_size} x {given.length} tokens, {torch.get_num_threads()} threads")
    best: dict[str, tuple[float, float]] = {}
    for _ in range(given.rounds):
        for name, scan in ways(loop=given.loop).items():
            taken = measured(scan, inputs(given.batch_size, given.length, device), device)
            known = best.get(name, taken)
            best[name] = min(known[0], taken[0]), min(known[1], taken[1])
    print(f"{'scan':20} {'forward':>9} {'with backward':>14}  ms")
    for name, (forward, both) in best.items():
        print(f"{name:20} {1e3 * forward:9.1f} {1e3 * both:14.1f}")


def ways(*, loop: bool) -> Mapping[str, Scan]:
    """All scans, by name; each takes x, dt, A, B, C, D and z, and returns y."""
    found: dict[str, Scan] = {"ours": partial(ours, None)}
    found |= {f"ours, chunks of {chunk}": partial(ours, chunk) for chunk in CHUNKS}
    if is_mambapy_available():
        found["mambapy"] = partial(theirs, use_mambapy=True)
    if loop:
        found["transformers' loop"] = theirs
    return found


def ours(chunk: int | None, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor) -> Tensor:
    """Our scan in chunks of that length."""
    y, _ = selective_scan(x, dt, A, B, C, D, z, chunk=chunk)
    return y


def theirs(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, **how: bool) -> Tensor:
    """Transformers' scan, which has B and C in another order."""
    plain = inspect.unwrap(mamba_selective_scan)  # where mamba-ssm is installed, else its kernel would be timed
    y: Tensor = plain(x, dt, A, B.transpose(1, 2), C.transpose(1, 2), D, z, **how)
    return y


def inputs(batch: int, length: int, device: torch.device) -> list[Tensor]:
    """Random inputs of a layer, which learns."""
    shapes = [(batch, CHANNELS, length)] * 2 + [(CHANNELS, STATES)] + [(batch, length, STATES)] * 2 + [(CHANNELS,)]
    x, dt, A, B, C, D = (torch.randn(*shape, device=device) for shape in shapes)
    given = [x, functional.softplus(dt - 4), -16 * A.abs(), B, C, D, torch.randn_like(x)]
    return [tensor.requires_grad_() for tensor in given]


def measured(scan: Scan, given: list[Tensor], device: torch.device) -> tuple[float, float]:
    """Seconds of a forward pass without gradients, and of one with its backward pass."""
    seconds = []
    for training in (False, True):
        started = time.perf_counter()
        with torch.set_grad_enabled(training):
            y = scan(*given)
        if training:
            torch.autograd.backward(y.square().mean())
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1]


if __name__ == "__main__":
    main()
