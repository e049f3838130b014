"""A training step of the engine, as `train` takes it, and the share of it in which the GPU works.

    python -m benchmarks.train_speed [--batch-size 32 --length 384 --layers 12 --hidden 768 --rounds 8]

BERT with random weights learns from random windows of unlike length, a fifth of them full, in bf16 on a GPU. Unlike in
`smp_step.py`, batches come from the data loader, and the Trainer and its callbacks do what they do in a step. A round
is the ten steps between two lines of the log; the first two do not count. The GPU is looked at in ten steps more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForQuestionAnswering, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Arguments

from benchmarks.machine import gpu_profile, headline, kernel_seconds, share, told
from compresskit.evaluate.measure import synchronize
from compresskit.methods.teaching import supervised
from compresskit.models.device import resolve_device
from compresskit.models.tasks.span_batches import SpanCollator
from compresskit.models.tasks.spans import SPANS
from compresskit.training.arguments import TrainingOptions
from compresskit.training.engine import LOG_STEPS, Engine

WARM = 2  # rounds


class Windows:
    """Random windows, a map-style data set."""

    def __init__(self, count: int, longest: int, vocabulary: int) -> None:
        generator = np.random.default_rng(0)
        self.lengths = generator.integers(longest // 4, longest * 5 // 4, count).clip(max=longest)
        self.ids = generator.integers(1000, vocabulary, longest).astype(np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """One window."""
        ids = self.ids[: self.lengths[index]]
        answer = index % (len(self.ids) // 4)
        return {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "start": answer, "end": answer}


class Clock(TrainerCallback):
    """Notes when each round ends, and looks at the GPU in the one after the last."""

    def __init__(self, rounds: int, device: torch.device) -> None:
        self.rounds, self.device = rounds, device
        self.ends: list[float] = []
        self.gpu: float | None = None

    def on_step_end(self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note the time once the GPU is done."""
        if state.global_step % LOG_STEPS:
            return
        synchronize(self.device)
        self.ends.append(time.perf_counter())
        if self.device.type == "cuda" and len(self.ends) == self.rounds + 1:
            self.profile = gpu_profile()
            self.profile.start()
        elif self.device.type == "cuda" and len(self.ends) == self.rounds + 2:
            self.profile.stop()
            self.gpu = kernel_seconds(self.profile) / LOG_STEPS


def main() -> None:
    """Train, and print the time of a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch-size", 32), ("length", 384), ("layers", 12), ("hidden", 768), ("rounds", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    rounds, device = arguments.rounds + WARM, resolve_device("auto")
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=arguments.layers,
        hidden_size=arguments.hidden,
        num_attention_heads=max(arguments.hidden // 64, 1),
        intermediate_size=4 * arguments.hidden,
    )
    model = BertForQuestionAnswering(config).train()
    steps = (rounds + 2) * LOG_STEPS
    windows = Windows(arguments.batch_size * steps, arguments.length, config.vocab_size)
    groups = [{"params": list(model.parameters()), "lr": 1e-5, "weight_decay": 0.01}]
    clock = Clock(rounds, device)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingOptions(
            model="-", max_steps=steps, batch_size=arguments.batch_size, lr=1e-5, save_steps=steps + 1
        )
        objective = supervised(SPANS)
        collator = SpanCollator(0, with_types=True)
        engine = Engine(model, windows, windows.lengths, collator, objective, SPANS.rows, groups, options, Path(folder))
        engine.add_callback(clock)
        engine.fit(resume=False)
    of_round = zip(clock.ends[WARM:], clock.ends[WARM + 1 : rounds + 1], strict=False)
    seconds = [(end - begin) / LOG_STEPS for begin, end in of_round]
    print(headline(device))
    print(f"BERT {arguments.layers}x{arguments.hidden}, batch {arguments.batch_size}x{arguments.length}, {device.type}")
    print(f"step   {told([1e3 * each for each in seconds], '.2f')} ms, median of {len(seconds)} rounds (half of them)")
    rate = arguments.batch_size / statistics.median(seconds)
    gpu = "-" if clock.gpu is None else f"{1e3 * clock.gpu:.2f} ms"
    print(f"rate   {rate:.1f} windows/s; kernels take {gpu} of a step, {share(clock.gpu, seconds)} of the time")


if __name__ == "__main__":
    main()
