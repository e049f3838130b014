"""The program itself, killed without warning and started again; and as two processes of one run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.mask import load_masks
from compresskit.data.held_out import hold_out
from compresskit.data.load import load as load_data
from compresskit.evaluate.score import score
from compresskit.models.answering import AnswerOptions
from compresskit.models.registry import load

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
COMMON = ["--max-train-samples", "120", "--max-length", "128", "--stride", "32", "--batch-size", "8", "--device", "cpu"]
STEPS = ["--max-steps", "90", "--save-steps", "7"]
PRUNE = ["prune", "demo/bert", "--method", "smp", "--sparsity", "0.7", "--distill"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "compresskit", *arguments]


def start(arguments: list[str], **more: Any) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(arguments, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, **more)


def run(arguments: list[str]) -> None:
    process = start(arguments)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 0, words.decode()


def kill_after_a_state(arguments: list[str], output: Path, step: int) -> None:
    """SIGKILL as soon as a state of at least `step` steps has its name."""
    process = start(arguments)
    limit = time.monotonic() + 120
    while not any(int(path.name[6:]) >= step for path in output.with_name(output.name + ".partial").glob("state-*")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    assert (output.with_name(output.name + ".partial") / "run.json").exists()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {file.name: load_file(file) for file in folder.glob("*.safetensors")}
    return {f"{file}/{name}": tensor for file, content in found.items() for name, tensor in content.items()}


def assert_same(first: Path, second: Path) -> None:
    one, two = tensors(first), tensors(second)
    assert one.keys() == two.keys()
    assert one
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


@pytest.mark.parametrize("kills", [[7], [28, 63]])
def test_a_killed_training(tmp_path: Path, kills: list[int]) -> None:
    arguments = ["train", "demo/bert", *COMMON, *STEPS]
    run(command(*arguments, "-o", str(tmp_path / "whole")))
    output = tmp_path / "killed"
    for number, step in enumerate(kills):
        more = ["--resume"] if number else []
        kill_after_a_state(command(*arguments, "-o", str(output), *more), output, step)
    run(command(*arguments, "-o", str(output), "--resume"))
    assert_same(tmp_path / "whole", output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    logs = [[json.loads(line) for line in (tmp_path / n / "log.jsonl").open()] for n in ("whole", "killed")]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]] == list(range(10, 91, 10))


def test_a_killed_pruning_with_distillation(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    run(command("train", "demo/bert", *COMMON, "--max-steps", "20", "-o", str(teacher)))
    arguments = [*PRUNE, "--teacher", str(teacher), *COMMON, *STEPS]
    run(command(*arguments, "-o", str(tmp_path / "whole")))
    output = tmp_path / "killed"
    kill_after_a_state(command(*arguments, "-o", str(output)), output, 35)
    run(command(*arguments, "-o", str(output), "--resume"))
    assert_same(tmp_path / "whole", output)
    masks = load_masks(output)
    kept = sum(mask.ones for mask in masks.values()) / sum(mask.size for mask in masks.values())
    assert kept == pytest.approx(0.3, abs=1e-3)


# The program, and a look at what it leaves: NCCL would warn of a group that is still there.
ENDS = """
import sys
from torch import distributed
from compresskit.cli.app import main
code = main()
assert not distributed.is_initialized(), "the group of processes was not left"
sys.exit(code)
"""


def test_two_processes(tmp_path: Path) -> None:
    """Training and pruning with distillation under torchrun, on the CPU with gloo."""
    program = tmp_path / "program.py"
    program.write_text(ENDS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(program)]
    dense, pruned = tmp_path / "dense", tmp_path / "pruned"
    steps = ["--max-steps", "12", "--save-steps", "5"]
    run([*torchrun, "train", "demo/bert", *COMMON, *steps, "-o", str(dense)])
    teach = ["--distill", "--teacher", str(dense)]
    run([*torchrun, "prune", str(dense), "--train-data", "demo", *teach, *COMMON, *steps, "-o", str(pruned)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "program.py", "pruned"]
    for folder in (dense, pruned):
        loaded = load(str(folder), device="cpu")
        assert loaded.manifest is not None
        assert loaded.manifest.steps[-1].metrics["steps"] == 12
        assert not loaded.missing_head
        assert all(torch.isfinite(p).all() for p in loaded.model.parameters())


def test_two_processes_choose_the_state_together(tmp_path: Path) -> None:
    """Each asks its part of the questions; the checkpoint is the best one's, whatever its number is divided by."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "compresskit"]
    chosen = ["--max-steps", "9", "--eval-steps", "3", "--held-out", "0.21"]
    run([*torchrun, "train", "demo/bert", *COMMON, *chosen, "-o", str(tmp_path / "out")])
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    told = manifest.steps[-1].metrics["selection"]
    _, held = hold_out(load_data("demo", "train").sample(120, 42), 0.21, 42)
    assert told["questions"] == len(held) == 25
    loaded = load(str(tmp_path / "out"))
    options = AnswerOptions(max_length=128, stride=32)
    answers = {answer.id: answer for answer in loaded.task.answer(loaded, held, options)}
    assert told["em"] == pytest.approx(score(held, answers).em)
