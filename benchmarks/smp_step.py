"""A training step under learned masks against a step of dense fine-tuning, for one shape of BERT.

    python benchmarks/smp_step.py [--batch-size 32 --length 384 --layers 12 --hidden 768 --rounds 15]

The ways take turns in one process, a few steps each, round by round, so that they share the machine's moods; `/ dense`
is the median over the rounds of the ratio to dense in the same round. `of time` is the share of a step in which the GPU
works; `GPU ms` is measured after the rounds, under a profiler.
`sorted` is a plain reading of the paper: sort each score matrix at each step, multiply the mask onto the fp32 weight,
and leave the cast to autocast.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer

from benchmarks.machine import gpu_seconds, headline, quartiles, seconds_of, share
from compresskit.methods.penalties import with_penalties
from compresskit.methods.prune.config import Method, PruneConfig
from compresskit.methods.prune.masked import own_name
from compresskit.methods.prune.method import Masks
from compresskit.methods.teaching import supervised
from compresskit.models.device import resolve_device
from compresskit.models.encoder import EncoderFamily
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import TrainableModel

DONE = 0.5  # the moment of the schedule that is timed: half the steps, most of the sparsity


class SortedTopK(torch.autograd.Function):
    """Top-k mask by a full sort, straight-through."""

    @staticmethod
    def forward(ctx: object, scores: Tensor, fraction: float) -> Tensor:
        """A mask of ones for the top fraction."""
        order = scores.flatten().sort(descending=True).indices
        mask = torch.zeros_like(scores).flatten()
        mask[order[: int(fraction * scores.numel())]] = 1.0
        return mask.view_as(scores)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        """Straight through."""
        return grad, None


class SortedMask(nn.Module):
    """`W * topk(S)` with the mask sorted anew in every forward pass."""

    def __init__(self, weight: Tensor, fraction: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(weight))
        self.fraction = fraction

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        mask: Tensor = SortedTopK.apply(self.scores, self.fraction)  # type: ignore[no-untyped-call]
        return weight * mask


def main() -> None:
    """Build every way, time them in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("batch-size", 32),
        ("length", 384),
        ("layers", 12),
        ("hidden", 768),
        ("steps", 5),
        ("rounds", 15),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ways", default="dense,smp,smp-l,movement,soft-movement,magnitude,sorted")
    arguments = parser.parse_args()
    device = resolve_device("auto")
    print(headline(device))
    print(f"BERT {arguments.layers}x{arguments.hidden}, batch {arguments.batch_size}x{arguments.length}, {device.type}")
    ways = arguments.ways.split(",")
    steps = {way: build(way, arguments, device) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    memory: dict[str, float] = {}
    busy: dict[str, float | None] = {}
    for way in ways:
        timed(steps[way], 5, device)
    for _ in range(arguments.rounds):
        for way in ways:
            seconds[way].append(timed(steps[way], arguments.steps, device) / arguments.steps)
    for way in ways:
        if device.type == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            timed(steps[way], 1, device)
            memory[way] = (torch.cuda.max_memory_allocated() - before) / 1e9
        busy[way] = gpu_seconds(functools.partial(repeated, steps[way], 3), device)
    print(
        f"{'way':14} {'ms/step':>9} {'half of rounds':>15} {'/ dense':>8} {'half of rounds':>15} {'GPU ms':>7} "
        f"{'of time':>8} {'GB a step':>10}"
    )
    for way in ways:
        ratios = [own / dense for own, dense in zip(seconds[way], seconds["dense"], strict=True)]
        low, middle, high = quartiles(ratios)
        least, typical, most = (1e3 * each for each in quartiles(seconds[way]))
        gpu = None if (found := busy[way]) is None else found / 3
        size, spread, between = memory.get(way, float("nan")), f"{least:.2f}-{most:.2f}", f"{low:.3f}-{high:.3f}"
        print(
            f"{way:14} {typical:9.2f} {spread:>15} {middle:8.3f} {between:>15} {1e3 * (gpu or float('nan')):7.2f} "
            f"{share(gpu, seconds[way]):>8} {size:10.2f}"
        )


def build(way: str, arguments: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    """A function that takes one training step of its own model."""
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=arguments.layers,
        hidden_size=arguments.hidden,
        num_attention_heads=arguments.hidden // 64,
        intermediate_size=4 * arguments.hidden,
    )
    model = BertForQuestionAnswering(config).train()
    family = EncoderFamily()
    objective = supervised(family.task)
    if way == "sorted":
        for name, module in family.weights(model).items():
            mask = SortedMask(module.get_parameter(own_name(name)), 0.5)
            parametrize.register_parametrization(module, own_name(name), mask, unsafe=True)
        learning = [p for name, p in model.named_parameters() if name.endswith("scores")]
        objective = with_penalty(objective, learning)
    elif way != "dense":
        prune = PruneConfig(method=cast(Method, way), sparsity=0.5)
        loaded = TrainableModel(model, BertTokenizer(), family, FullKind(), way, None, None)
        masks = Masks(loaded, prune, torch.bfloat16 if device.type == "cuda" else torch.float32)
        objective = with_penalties(objective, loaded, masks)
        weights = (
            [p for name, p in model.named_parameters() if name.endswith("original")] if prune.learns_weights else []
        )
        learning = [*masks.added(), *weights]
    else:
        learning = list(model.parameters())
    chosen = {id(p) for p in learning}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    model.to(device)
    optimizer = torch.optim.AdamW(learning, lr=1e-4, fused=True)
    batch = random_batch(arguments.batch_size, arguments.length, config.vocab_size, device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = objective(model, batch, DONE)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def with_penalty(objective: Callable[..., Tensor], scores: list[nn.Parameter]) -> Callable[..., Tensor]:
    """The objective with the paper's penalty, matrix by matrix."""

    def penalized(model: nn.Module, batch: dict[str, Tensor], done: float) -> Tensor:
        norms = [torch.norm(torch.sigmoid(score), p=1) / score.numel() for score in scores]
        return objective(model, batch, done) + 400 * torch.stack(norms).mean()

    return penalized


def random_batch(size: int, length: int, vocabulary: int, device: torch.device) -> dict[str, Tensor]:
    """Random tokens without padding, with random labels."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, vocabulary, (size, length), generator=generator)
    labels = torch.randint(0, length, (2, size), generator=generator)
    batch = {"input_ids": ids, "start": labels[0], "end": labels[1]}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def timed(step: Callable[[], None], count: int, device: torch.device) -> float:
    """Seconds that `count` steps take, until the device has finished them."""
    return seconds_of(functools.partial(repeated, step, count), device)


def repeated(step: Callable[[], None], count: int) -> None:
    """Take `count` steps."""
    for _ in range(count):
        step()


if __name__ == "__main__":
    main()
