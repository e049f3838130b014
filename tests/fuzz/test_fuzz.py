"""Every file that the program reads, damaged: whatever stands in it, the command keeps its contract.

A hundred cases run with the other tests. `make fuzz SEED=7` runs many more, `make fuzz SEED=7 CASE=12` one again.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE_SEED, SAMPLE = 18, 100
SEED = int(os.environ.get("FUZZ_SEED") or 1)
CASES = int(os.environ.get("FUZZ_CASES") or 1500)
CASE = int(os.environ["FUZZ_CASE"]) if os.environ.get("FUZZ_CASE") else None
BATCH = 25

Play = Callable[..., dict[str, Any] | None]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Run a case by its seed and number in a warm process; None where only quick ones are asked for, and it is not."""
    root = Path(tempfile.mkdtemp(prefix="compresskit-fuzz-"))  # pytest's own would be too long for the name of a socket
    own = {
        "HOME": f"{root}/home",
        "TMPDIR": f"{root}/home/tmp",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(REPOSITORY),
    }
    with (
        (root / "log.txt").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **own, "PYTHONDONTWRITEBYTECODE": "1"},
        ) as server,
    ):

        def outcome(seed: int, number: int, only_quick: bool = False) -> dict[str, Any] | None:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(f"{seed} {number} {'quick' if only_quick else 'any'}\n")
            server.stdin.flush()
            line = server.stdout.readline()
            assert line, f"the fuzzer itself failed at case {number}:\n{(root / 'log.txt').read_text()[-3000:]}"
            known: dict[str, Any] | None = json.loads(line)
            return known

        yield outcome
        server.communicate()
    shutil.rmtree(root)


def told(seed: int, number: int, outcome: dict[str, Any] | None) -> list[str]:
    """How a case broke the contract, and how to repeat it; nothing where it did not."""
    if outcome is None or not outcome["breaches"]:
        return []
    kinds = "; ".join(f"{kind}: {text}" for kind, text in outcome["breaches"])
    return [f"SEED={seed} CASE={number}: {outcome['case']}\n    {kinds}"]


def test_a_sample(play: Play) -> None:
    """The first hundred whose subject is made at once."""
    broken, done = [], 0
    for number in itertools.count():
        outcome = play(SAMPLE_SEED, number, True)
        broken += told(SAMPLE_SEED, number, outcome)
        done += outcome is not None
        if done == SAMPLE:
            break
    assert broken == [], "\n".join(broken)


@pytest.mark.fuzz
@pytest.mark.parametrize("first", [CASE] if CASE is not None else range(0, CASES, BATCH))
def test_cases(first: int, play: Play) -> None:
    numbers = range(first, first + 1 if CASE is not None else min(first + BATCH, CASES))
    broken = [line for number in numbers for line in told(SEED, number, play(SEED, number))]
    assert broken == [], "\n".join(broken)
