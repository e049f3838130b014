"""CPU seconds that a command takes on a tiny model, in parts of those of importing torch and transformers.

    python -m benchmarks.startup [--rounds 3]

What such a command does on twenty questions is done in a moment: what is left is what it imports. Each runs in a fresh
process; the least of the rounds is told.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.help_time import cpu_seconds
from compresskit.checkpoint.manifest import package_versions

BARE = "import torch, transformers"


def main() -> None:
    """Measure all commands in turn, and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    os.environ["OMP_NUM_THREADS"] = "1"
    print(", ".join(f"{name} {version}" for name, version in package_versions().items()))
    with tempfile.TemporaryDirectory() as folder:
        ways = commands(Path(folder))
        cpu_seconds(ways["train, one step"])  # also makes what the others open
        found = {name: min(cpu_seconds(command) for _ in range(rounds)) for name, command in ways.items()}
    for name, seconds in found.items():
        print(f"{name:24} {seconds:6.2f} s {seconds / found[BARE]:6.2f}")


def commands(folder: Path) -> Mapping[str, Sequence[str]]:
    """The commands by what is printed for them; they work in `folder`."""
    reader, data = str(folder / "reader"), str(folder / "data.json")
    answer = {"text": "Ada", "answer_start": 0}
    questions = [{"id": str(n), "question": "Who wrote it?", "answers": [answer]} for n in range(20)]
    paragraph = {"context": "Ada wrote it.", "qas": questions}
    Path(data).write_text(json.dumps({"data": [{"title": "", "paragraphs": [paragraph]}]}))
    train = ("train", "demo/bert", "--train-data", data, "-o")
    ours = (sys.executable, "-m", "compresskit")
    asked = ("-q", "Who wrote it?", "-c", "Ada wrote it.")
    return {
        BARE: (sys.executable, "-c", BARE),
        "train --plan": (*ours, *train, str(folder / "planned"), "--plan"),
        "predict": (*ours, "predict", reader, *asked),
        "eval of 20 questions": (*ours, "eval", reader, "--data", data, "--no-cache"),
        "inspect": (*ours, "inspect", reader),
        "train, one step": (*ours, *train, reader, "--max-steps", "1", "--overwrite"),
    }


if __name__ == "__main__":
    main()
