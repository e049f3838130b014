"""Data, a dense checkpoint and a mask on it, made once by the Python API."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import compresskit as ck
from compresskit.data import demo

SHORT: dict[str, Any] = {"max_steps": 3, "batch_size": 8, "max_length": 128, "stride": 32, "device": "cpu"}
MEASURED: dict[str, Any] = {"device": "cpu", "max_length": 128, "stride": 32, "latency_questions": 0}


@dataclass(frozen=True)
class Made:
    """Files of data, and checkpoints."""

    train_data: Path
    eval_data: Path
    dense: ck.Checkpoint
    half: ck.Checkpoint


@pytest.fixture(autouse=True)
def no_bars() -> Iterator[None]:
    """Other tests look at all that the command line prints, and a call puts back the bars of libraries."""
    yield
    if of_transformers := sys.modules.get("transformers.utils.logging"):
        of_transformers.disable_progress_bar()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("api")
    train_data, eval_data = demo.write(root, demo.DemoConfig(train_questions=48, eval_questions=24))
    short = {**SHORT, "train_data": train_data}
    dense = ck.train("demo/bert", lr=1e-3, output=root / "dense", **short)
    half = ck.prune(dense, sparsity=0.5, distill=True, teacher=dense, output=root / "half", **short)
    return Made(train_data, eval_data, dense, half)
