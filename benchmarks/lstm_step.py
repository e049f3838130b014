"""A training step of a BiLSTM reader: dense, under learned masks, and dense with packed sequences.

python -m benchmarks.lstm_step --data TRAIN.json [--variant 1] [--batch-size 64] [--device cpu]

Our layer runs over padded sequences; `packed` has in its place one that packs them. The ways take turns in one process,
round by round. A ratio is the median over the rounds of that in one round. Then: where the time of a dense step goes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.machine import headline
from compresskit.data.load import load
from compresskit.methods.penalties import with_penalties
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.method import Masks
from compresskit.methods.teaching import supervised
from compresskit.models.answering import WindowOptions
from compresskit.models.device import resolve_device
from compresskit.models.lstm.layers import BiLSTM
from compresskit.models.lstm.variants import LstmOptions
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source
from compresskit.training.sampler import LengthGroupedSampler

QUESTIONS, STEPS, ROUNDS, WARM_UP = 4000, 5, 7, 3
WAYS = ("dense", "smp", "packed")


def main() -> None:
    """Time every way in turns, print the table and the profile of a dense step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--variant", default="1")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device = resolve_device(given.device)
    print(headline(device))
    with tempfile.TemporaryDirectory() as folder:
        runs = {way: Run(way, given, device, Path(folder) / way) for way in WAYS}
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for run in runs.values():
            run.seconds(WARM_UP)
        for _ in range(ROUNDS):
            for way, run in runs.items():
                seconds[way].append(run.seconds(STEPS) / STEPS)
        print(f"variant {given.variant}, batch {given.batch_size}, {torch.get_num_threads()} threads, {padding(runs)}")
        print(f"{'way':14} {'ms/step':>9} {'examples/s':>11} {'/ dense':>8}")
        for way, taken in seconds.items():
            typical = statistics.median(taken)
            over = ratio(taken, seconds["dense"])
            print(f"{way:14} {1e3 * typical:9.2f} {given.batch_size / typical:11.0f} {over:8.3f}")
        print(f"padded / packed {ratio(seconds['dense'], seconds['packed']):.3f}")
        with torch.profiler.profile() as profile:
            runs["dense"].seconds(STEPS)
        kind = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        print(profile.key_averages().table(sort_by=kind, row_limit=8, max_name_column_width=40))


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of `times` to `others` of the same round."""
    return statistics.median(own / other for own, other in zip(times, others, strict=True))


def padding(runs: dict[str, Run]) -> str:
    """How much of the batches is padding, in this order of the data and in a random one."""
    run = runs["dense"]
    shares = []
    for order in (run.order, torch.randperm(len(run.order)).tolist()):
        whole = len(order) // run.size * run.size
        lengths = torch.from_numpy(run.features.lengths)[torch.tensor(order[:whole])].view(-1, run.size)
        shares.append(1 - float(lengths.sum()) / float(lengths.amax(dim=1).sum() * run.size))
    return f"{shares[0]:.1%} of a batch is padding ({shares[1]:.1%} in random order)"


class Run:
    """Training steps of a new reader over the windows of `QUESTIONS` questions, in one of `WAYS`."""

    def __init__(self, way: str, given: argparse.Namespace, device: torch.device, folder: Path) -> None:
        examples = load(given.data, "train")
        examples = examples.sample(min(QUESTIONS, len(examples)), 0)
        LstmOptions.choose(variant=given.variant, embeddings="random").build(examples, 0, folder / "reader")
        loaded = load_trainable(Source("reader", folder / "reader"))
        self.model, self.device, self.way, self.size = loaded.model.train(), device, way, given.batch_size
        self.objective = supervised(loaded.task)
        learning = list(self.model.parameters())
        if way == "smp":
            dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
            masks = Masks(loaded, PruneConfig(), dtype)
            learning = list(masks.added())
            scores = {id(p) for p in learning}
            for parameter in self.model.parameters():
                parameter.requires_grad_(id(parameter) in scores)
            self.objective = with_penalties(self.objective, loaded, masks)
        to_device: Callable[[torch.device], object] = self.model.to
        to_device(device)
        loaded.task.write(loaded.tokenizer, examples, WindowOptions(), folder / "features")
        self.features = loaded.task.open(folder / "features")
        self.order = list(LengthGroupedSampler(self.features.lengths, self.size, 0))
        self.collate = loaded.task.collator(loaded.tokenizer)
        self.optimizer = torch.optim.AdamW(learning, lr=1e-3, fused=True)
        self.taken = 0

    def step(self) -> None:
        """Take the next step."""
        begin = self.taken * self.size % (len(self.order) - self.size)
        self.taken += 1
        batch = self.collate([self.features[row] for row in self.order[begin : begin + self.size]])
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.objective(self.model, batch, 0.5)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds(self, count: int) -> float:
        """How long the next `count` steps take, until the device has finished them."""
        started = time.perf_counter()
        with mock.patch.object(BiLSTM, "forward", packed) if self.way == "packed" else contextlib.nullcontext():
            for _ in range(count):
                self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def packed(layer: BiLSTM, inputs: Tensor, lengths: Tensor) -> Tensor:
    """What `BiLSTM.forward` gives, by packed sequences: both directions in one call, no padding computed."""
    weights = [getattr(layer, name).float() for name in layer._flat_weights_names]
    with torch.autocast(inputs.device.type, enabled=False):
        rows = pack_padded_sequence(inputs.float(), on_cpu(lengths), batch_first=True, enforce_sorted=False)
        zeros = rows.data.new_zeros(2, len(inputs), layer.hidden_size)
        data = torch.lstm(rows.data, rows.batch_sizes, (zeros, zeros), weights, True, 1, 0.0, layer.training, True)[0]
        states = pad_packed_sequence(rows._replace(data=data), batch_first=True, total_length=inputs.shape[1])[0]
    return states.to(inputs.dtype)


@functools.lru_cache(maxsize=2)
def on_cpu(lengths: Tensor) -> Tensor:
    """The lengths where packing wants them. All layers of a step share one tensor of them, and so wait once for it."""
    return lengths.cpu()


if __name__ == "__main__":
    main()
