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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE_SEED, SAMPLE = 18, 100
SEED = int(os.environ.get("FUZZ_SEED") or 1)
CASES = int(os.environ.get("FUZZ_CASES") or 1500)
CASE = int(os.environ["FUZZ_CASE"]) if os.environ.get("FUZZ_CASE") else None
BATCH = 25


@dataclass(frozen=True)
class Player:
    """A warm process that plays cases (see `server.py`), and its log."""

    process: subprocess.Popen[str]
    log: Path

    def ask(self, *words: object) -> dict[str, Any] | None:
        """What became of a case; None where there is none, or it was passed over."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the fuzzer itself failed at {words}:\n{self.log.read_text()[-3000:]}"
        known: dict[str, Any] | None = json.loads(line)
        return known


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    root = Path(tempfile.mkdtemp(prefix="compresskit-fuzz-"))
    home, log = root / "home", root / "log.txt"
    own = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, **own, "PYTHONDONTWRITEBYTECODE": "1"},
        ) as process,
    ):
        yield Player(process, log)
        process.communicate()
    shutil.rmtree(root)


def told(outcome: dict[str, Any] | None, repeat: str) -> list[str]:
    """How a case broke the contract, and how to repeat it; nothing where it did not."""
    if outcome is None or not outcome["breaches"]:
        return []
    kinds = "; ".join(f"{kind}: {text}" for kind, text in outcome["breaches"])
    return [f"{repeat}: {outcome['case']}\n    {kinds}"]


def test_a_sample(player: Player) -> None:
    """The first hundred whose subject is made at once; some of them do no harm, some are refused."""
    codes: list[object] = []
    broken: list[str] = []
    for number in itertools.count():
        if (outcome := player.ask(SAMPLE_SEED, number, "quick")) is not None:
            codes.append(outcome["code"])
            broken += told(outcome, f"make fuzz SEED={SAMPLE_SEED} CASE={number}")
        if len(codes) == SAMPLE:
            break
    assert broken == [], "\n".join(broken)
    assert min(codes.count(0), codes.count(3)) > SAMPLE / 10


@pytest.mark.fuzz
@pytest.mark.parametrize("first", [CASE] if CASE is not None else range(0, CASES, BATCH))
def test_cases(first: int, player: Player) -> None:
    broken: list[str] = []
    for number in range(first, first + 1 if CASE is not None else min(first + BATCH, CASES)):
        broken += told(player.ask(SEED, number, "any"), f"make fuzz SEED={SEED} CASE={number}")
    assert broken == [], "\n".join(broken)


@pytest.mark.fuzz
@pytest.mark.skipif(CASE is not None, reason="one case was asked for")
def test_what_is_not_damaged_is_read(player: Player) -> None:
    """Otherwise the cases would hold for a program that refuses everything."""
    from tests.fuzz.subjects import SUBJECTS

    failed = []
    for name, subject in SUBJECTS.items():
        for number, words in enumerate(subject.verbs):
            outcome = player.ask(name, number, "untouched")
            assert outcome is not None
            failed += told(outcome, words)
            if outcome["code"] != 0:
                failed.append(f"{words}: code {outcome['code']}: {outcome['said']}")
    assert failed == [], "\n".join(failed)
