"""Time and memory of answering and scoring a tenth, a third and all of a large data set: linear, and constant.

    python benchmarks/eval_scale.py [--checkpoint demo/bert --data EVAL.json --questions 60000]

The data set is an evaluation set repeated, each question with an id of its own. Every size is read, answered and scored
in a fresh process, by the same functions as `compresskit eval`. `anonymous` is the part of the peak that is no file
mapped into memory: of the data set's tables, the system holds as much as it likes, and gives it up when asked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.machine import headline
from compresskit.data.examples import Example, ExampleSet
from compresskit.data.load import load as load_data
from compresskit.evaluate.measure import peak_rss_bytes
from compresskit.evaluate.predict import predictions
from compresskit.evaluate.score import Scorer
from compresskit.models.answering import AnswerOptions
from compresskit.models.device import resolve_device
from compresskit.models.registry import load

MB = 1e6


def main() -> None:
    """Measure every size in its own process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="demo/bert")
    parser.add_argument("--data", default="demo")
    parser.add_argument("--questions", type=int, default=60_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measured(arguments.checkpoint, arguments.one, arguments.batch_size)))
        return
    print(headline(resolve_device("auto")))
    print(f"{arguments.checkpoint}, {arguments.data} repeated, batches of {arguments.batch_size}")
    print(
        f"{'questions':>9} {'read s':>8} {'answer s':>9} {'questions/s':>12} {'peak RSS MB':>12} {'anonymous MB':>13}"
    )
    examples = load_data(arguments.data, "eval")
    for parts in (10, 3, 1):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "eval.json")
            write_repeated(examples, arguments.questions // parts, path)
            command = [sys.executable, __file__, "--checkpoint", arguments.checkpoint, "--one", str(path)]
            command += ["--batch-size", str(arguments.batch_size)]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(said.splitlines()[-1])
        print(
            f"{row['questions']:9} {row['read']:8.1f} {row['answer']:9.1f} {row['questions'] / row['answer']:12.1f} "
            f"{row['peak'] / MB:12.1f} {row['anonymous'] / MB:13.1f}",
            flush=True,
        )


def write_repeated(examples: ExampleSet, count: int, path: Path) -> None:
    """Write `count` questions: those of `examples`, over and over."""
    endless = itertools.chain.from_iterable(((turn, example) for example in examples) for turn in itertools.count())
    wanted = itertools.islice(endless, count)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"data": [{"title": "", "paragraphs": [')
        for number, (_, group) in enumerate(itertools.groupby(wanted, key=lambda one: (one[0], one[1].paragraph))):
            asked = list(group)
            paragraph = {"context": asked[0][1].context, "qas": [_question(*one) for one in asked]}
            file.write((", " if number else "") + json.dumps(paragraph))
        file.write("]}]}")


def _question(turn: int, example: Example) -> dict[str, object]:
    answers = [{"text": answer.text, "answer_start": answer.start} for answer in example.answers]
    return {
        "id": f"{turn}-{example.id}",
        "question": example.question,
        "answers": answers,
        "is_impossible": not answers,
    }


def measured(checkpoint: str, path: Path, batch_size: int) -> dict[str, float]:
    """Read, answer and score the questions of a file, and return the seconds and the peak of this process's memory."""
    start = time.perf_counter()
    examples = load_data(str(path), "eval")
    read = time.perf_counter() - start
    loaded = load(checkpoint)
    options, scorer = AnswerOptions(batch_size=batch_size), Scorer()
    with Anonymous() as anonymous:
        start = time.perf_counter()
        for example, prediction in zip(examples, predictions(loaded, examples, options), strict=True):
            scorer.add(example, prediction)
        scorer.result()
        answer = time.perf_counter() - start
    peak = peak_rss_bytes() or 0
    return {"questions": len(examples), "read": read, "answer": answer, "peak": peak, "anonymous": anonymous.bytes}


class Anonymous:
    """The most anonymous memory of this process that was seen in a block, looked at ten times a second (Linux)."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Anonymous:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
            now = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
            self.bytes = max(self.bytes, now)


if __name__ == "__main__":
    main()
