"""What distillation costs: epochs with a teacher against epochs without, the first and the later ones.

    python benchmarks/distill_cost.py [--model demo/bert --data demo --questions 2000 --epochs 4]

Student and teacher have the model's shape. The first epoch with a teacher includes asking it about every window; the
later ones read its logits from the disk.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from benchmarks.machine import headline
from compresskit.methods.distillation import TEMPERATURE, WEIGHT
from compresskit.methods.teaching import TaughtFeatures, ask_teacher, distilled, open_kept, supervised
from compresskit.methods.train import weight_groups
from compresskit.models.device import resolve_device
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from compresskit.models.task import Items, Lesson
from compresskit.training.arguments import TrainingOptions
from compresskit.training.computing import Objective, compute_dtype
from compresskit.training.engine import Engine
from compresskit.training.session import training_examples


class Epochs(TrainerCallback):
    """Seconds of every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.start)


def main() -> None:
    """Measure and print the three kinds of epochs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/bert")
    parser.add_argument("--data", default="demo")
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    options = TrainingOptions(
        model=arguments.model,
        output=Path("unused"),
        train_data=arguments.data,
        max_train_samples=arguments.questions,
        epochs=arguments.epochs,
        lr=1e-4,
        save_steps=10**9,
    )
    print(headline(resolve_device("auto")))
    none, first, later = measure(options)
    print(f"{arguments.model}, {arguments.questions} questions of {arguments.data}, batch {options.batch_size}")
    print(f"no teacher        {none:8.2f} s an epoch")
    print(f"teacher, first    {first:8.2f} s   {first / none:.3f} of no teacher")
    print(f"teacher, later    {later:8.2f} s   {later / none:.3f} of no teacher")


def measure(options: TrainingOptions) -> tuple[float, float, float]:
    """Seconds of an epoch without a teacher, of the first with one, and of a later one (medians but the first)."""
    source = resolve(options.model)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        teacher = load_trainable(source)
        task, examples = teacher.task, training_examples(options)[0]
        task.write(teacher.tokenizer, examples, options.windows, work / "features")
        features = task.open(work / "features")
        lesson = Lesson(features, examples, options.windows)
        start = time.perf_counter()
        pairing = task.pairing(teacher, teacher)
        assert pairing is not None
        ask_teacher(teacher, pairing, lesson, work, "auto", compute_dtype(options))
        asking = time.perf_counter() - start
        taught = TaughtFeatures(features, open_kept(work))
        runs: dict[str, list[float]] = {"none": [], "taught": []}
        for _ in range(2):
            ways: list[tuple[str, Items, Objective]] = [
                ("none", features, supervised(task)),
                ("taught", taught, distilled(task, TEMPERATURE, WEIGHT)),
            ]
            for name, data, objective in ways:
                student = load_trainable(source)
                epochs = Epochs()
                engine = Engine(
                    student.model,
                    data,
                    features.lengths,
                    task.collator(student.tokenizer),
                    objective,
                    task.rows,
                    weight_groups(student.model.parameters(), options),
                    options,
                    work,
                )
                engine.add_callback(epochs)
                engine.fit(resume=False)
                # The first epoch of any run pays for what the process does once: workers, kernels, memory pools.
                runs[name] += epochs.seconds[1:]
    none, later = statistics.median(runs["none"]), statistics.median(runs["taught"])
    return none, later + asking, later


if __name__ == "__main__":
    main()
