"""Questions a second with examples before each question, which are read once for all, against reading them every time.

    python -m benchmarks.prefix_speed CKPT --data EVAL.json --shots-data TRAIN.json [--shots 5] [--questions 64]

Both ways are ours, and take turns; answers are compared. The model goes on with a text (Mamba, or one of attention).
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.machine import headline
from compresskit.data.load import load as load_data
from compresskit.data.shots import drawn
from compresskit.models.answering import AnswerOptions
from compresskit.models.registry import load
from compresskit.models.tasks import causal_memory


def main() -> None:
    """Time both ways in turn and print questions a second, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", required=True)
    parser.add_argument("--shots-data", required=True)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    loaded = load(given.checkpoint, device=given.device)
    examples = load_data(given.data, "eval").sample(given.questions, seed=0)
    shots = tuple(drawn(load_data(given.shots_data, "train"), given.shots, seed=0))
    options = AnswerOptions(given.max_length, given.max_length // 8, shots=shots)
    print(headline(loaded.device))
    least = {"read once": causal_memory.LEAST, "read every time": 10**9}
    rates: dict[str, list[float]] = {name: [] for name in least}
    answers = {}
    for _ in range(given.rounds):
        for name, causal_memory.LEAST in least.items():
            start = time.perf_counter()
            answers[name] = [each.span_text for each in loaded.task.answer(loaded, examples, options)]
            rates[name].append(len(examples) / (time.perf_counter() - start))
    for name, found in rates.items():
        print(f"{name:16} {', '.join(f'{rate:.2f}' for rate in found)} questions/s")
    once, every = (statistics.median(found) for found in rates.values())
    pairs = list(zip(*answers.values(), strict=True))
    print(f"ratio {once / every:.2f}; equal answers {sum(one == two for one, two in pairs)} of {len(pairs)}")


if __name__ == "__main__":
    main()
