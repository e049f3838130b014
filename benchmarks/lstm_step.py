"""A training step of a BiLSTM reader on a CPU: our layer against packed sequences, and where the step's time goes.

python -m benchmarks.lstm_step --data TRAIN.json [--variant 1] [--batch-size 64]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.machine import headline
from compresskit.data.features import WindowOptions
from compresskit.data.load import load
from compresskit.models.lstm.layers import BiLSTM
from compresskit.models.lstm.options import LstmOptions
from compresskit.models.registry import load_source
from compresskit.models.source import Source
from compresskit.training.sampler import LengthGroupedSampler

QUESTIONS, STEPS, WARM_UP = 4000, 30, 3


def main() -> None:
    """Time steps both ways, profile ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--variant", default="1")
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    print(headline(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        step = Step(given.data, given.variant, given.batch_size, Path(folder))
        ours = step.seconds()
        with mock.patch.object(BiLSTM, "forward", packed):
            other = step.seconds()
        print(
            f"variant {given.variant}, batch {given.batch_size}, {torch.get_num_threads()} threads: "
            f"{given.batch_size / ours:.0f} examples/s; with packed sequences {given.batch_size / other:.0f} "
            f"(a step takes {other / ours:.2f} times as long)"
        )
        with torch.profiler.profile() as profile:
            step.run(range(5))
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=8, max_name_column_width=40))


def packed(layer: BiLSTM, inputs: Tensor, lengths: Tensor, host_lengths: Tensor) -> Tensor:
    """The layer as torch's documentation has it."""
    sequences = pack_padded_sequence(inputs, host_lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(nn.LSTM.forward(layer, sequences)[0], batch_first=True, total_length=inputs.shape[1])[0]


class Step:
    """Training steps of a new reader over the windows of `QUESTIONS` questions."""

    def __init__(self, data: str, variant: str, batch_size: int, folder: Path) -> None:
        examples = load(data, "train")
        examples = examples.sample(min(QUESTIONS, len(examples)), 0)
        LstmOptions.choose(variant=variant, embeddings="random").build(examples, 0, folder / "reader")
        loaded = load_source(Source("reader", folder / "reader"))
        self.model, self.family = loaded.model.train(), loaded.family
        self.features = self.family.features(loaded.tokenizer, examples, WindowOptions(), folder / "features")
        self.order = list(LengthGroupedSampler(self.features.lengths, batch_size, 0))
        self.collate = self.family.collator(loaded.tokenizer)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.size = batch_size

    def run(self, steps: Any) -> None:
        """Take the steps of these numbers."""
        for number in steps:
            rows = self.order[number * self.size : (number + 1) * self.size]
            batch = self.collate([self.features[row] for row in rows])
            loss = self.family.loss(self.family.logits(self.model, batch), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()

    def seconds(self) -> float:
        """Mean time of a step."""
        self.run(range(WARM_UP))
        started = time.perf_counter()
        self.run(range(STEPS))
        return (time.perf_counter() - started) / STEPS


if __name__ == "__main__":
    main()
