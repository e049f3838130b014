"""Files that cannot be read, or hold numbers that are not finite: one line on stderr, code 3, nothing written."""

import errno
import io
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Trained, words_of


def copy(trained: Trained, *names: str) -> list[Path]:
    """Copies of trained folders beside each other, to be damaged."""
    return [Path(shutil.copytree(trained.root / name, Path(name))).resolve() for name in names]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let the system refuse one file; root, who may run the tests, reads whatever there is."""

    def refuse(forbidden: Path) -> None:
        really = io.open

        def opened(file: Any, *more: Any, **named: Any) -> Any:
            if isinstance(file, Path) and file.resolve() == forbidden.resolve():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
            return really(file, *more, **named)

        monkeypatch.setattr(io, "open", opened)

    return refuse


@pytest.mark.parametrize("name", ["compresskit.json", "model.safetensors"])
def test_a_file_of_a_checkpoint_that_cannot_be_read(name: str, trained: Trained, refused, unreadable) -> None:
    (folder,) = copy(trained, "dense")
    unreadable(folder / name)
    line = refused(3, "predict", folder, "-q", "a", "-c", "b")
    assert line.startswith(f"{folder}/{name} cannot be read (Permission denied); ")


@pytest.mark.parametrize("name", ["compresskit.yaml", "pyproject.toml"])
def test_settings_that_cannot_be_read(name: str, place: Path, refused, unreadable) -> None:
    (place / name).write_text("")
    unreadable(place / name)
    assert f"{name} cannot be read (Permission denied); mend it" in refused(3, "eval")


def test_vectors_that_cannot_be_read(trained: Trained, place: Path, refused, unreadable) -> None:
    vectors = place / "words.vec"
    vectors.write_text("the 1 2\n")
    unreadable(vectors)
    line = refused(3, "train", "lstm", "--embeddings", vectors, "-o", "out", *trained.short, "--plan")
    assert line.startswith(f"{vectors} cannot be read (Permission denied); ")


def test_a_report_that_cannot_be_read(place: Path, refused, unreadable) -> None:
    report = place / "eval.json"
    report.write_text("{}")
    unreadable(report)
    line = refused(3, "report", report)
    assert line == f"{report} cannot be read (Permission denied); give the JSON that compresskit eval -o wrote"


def test_a_name_longer_than_any_file_can_have(refused) -> None:
    line = refused(3, "inspect", f"./{'x' * 5000}")
    assert len(line) < 2100
    assert line.endswith("File name too long; check the name and its permissions")


def test_a_plan_opens_what_the_run_will_score_on(trained: Trained, refused) -> None:
    words = ["train", trained.dense, "-o", "out", *trained.short, "--eval-data", "./nothing.json"]
    assert refused(3, *words, "--plan").startswith("./nothing.json: no such file")


@pytest.mark.parametrize("number", [math.inf, math.nan])
@pytest.mark.parametrize("verb", ["predict", "prune"])
def test_weights_that_are_not_finite(verb: str, number: float, trained: Trained, refused) -> None:
    """Infinity would be printed as JSON that is none; NaN would be learned from for hours."""
    (folder,) = copy(trained, "dense")
    tensors = load_file(folder / "model.safetensors")
    tensors["qa_outputs.bias"][0] = number
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    line = refused(3, *words_of(verb, folder, trained))
    assert line == f"{folder} has weights that are not numbers (qa_outputs.bias); make it again"


def test_a_merge_writes_no_weights_that_are_not_finite(trained: Trained, refused) -> None:
    _, folder = copy(trained, "dense", "smp")
    tensors = load_file(folder / "weights.safetensors")
    tensors["qa_outputs.bias"] = torch.full((2,), math.nan)
    save_file(tensors, folder / "weights.safetensors", metadata={"format": "pt"})
    assert "not numbers (qa_outputs.bias)" in refused(3, "merge", folder, "-o", "out")
