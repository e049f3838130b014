"""What a training on a CPU takes of the machine's memory, and what its plan says of it."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from compresskit.training import allocator
from tests import tiny

RUN = """
import resource, sys
from compresskit.cli.app import main
code = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def test_resident_bytes_grow_by_a_tensor() -> None:
    before = allocator.resident_bytes()
    if before is None:
        pytest.skip("this system does not tell")
    kept = torch.ones(25_000_000)
    after = allocator.resident_bytes()
    assert after is not None
    assert after - before == pytest.approx(kept.nbytes, rel=0.1)


@pytest.mark.parametrize("name", [None, "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_who_chose_for_the_allocator_is_left_alone(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, what: int, value: int) -> None:
            calls.append((what, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    for each in ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(each, raising=False)
    if name is not None:
        monkeypatch.setenv(name, "1")
    allocator.give_back_freed()
    assert calls == ([] if name else [(-3, 4 << 20)])


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    allocator.give_back_freed()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["train", "lora", "prune"])
def test_a_plan_tells_the_process_s_memory(method: str, tmp_path: Path) -> None:
    """Within 15 % of the peak of the resident set, where batches are as long as the plan takes them to be."""
    config = BertConfig(vocab_size=64, hidden_size=384, num_hidden_layers=6, num_attention_heads=6)
    BertForQuestionAnswering(config).save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    call = [method, str(tmp_path / "base"), "--train-data", "demo", "--max-train-samples", "100", "--max-steps", "3"]
    call += ["--batch-size", "48", "--max-length", "96", "--stride", "24", "-o", str(tmp_path / "out")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}

    def told(*more: str) -> str:
        ran = [sys.executable, "-c", RUN, *call, *more]
        return subprocess.run(ran, env=env, check=True, capture_output=True, text=True).stdout

    planned = re.search(r"memory +about ([\d.]+) GB on cpu", told("--plan"))
    peak = re.search(r"peak (\d+)", told())
    assert planned is not None
    assert peak is not None
    assert float(planned[1]) * 1e9 == pytest.approx(int(peak[1]) * 1024, rel=0.15)
