"""The page on Python: its code runs, top to bottom, on small data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import compresskit as ck
from compresskit.data import demo

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"


def test_the_page_names_what_is_public() -> None:
    named = set(re.findall(r"ck\.(\w+)", PAGE.read_text()))
    assert named <= set(ck.__all__)
    functions = {name for name in ck.__all__ if name[0].islower()} - {"register"}
    assert functions - named == set()


@pytest.mark.slow
@pytest.mark.usefixtures("measured_here")
def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    train, dev = demo.write(tmp_path, demo.DemoConfig(train_questions=48, eval_questions=24))
    train.rename("train.json")
    dev.rename("dev.json")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"block {number} of {PAGE.name}", "exec"), names)
    assert names["half"].metrics["sparsity"] == pytest.approx(50, abs=1)
    shown = capsys.readouterr()
    assert "size<=1.1x" in shown.out
    assert "ck.prune takes no keyword sparcity; did you mean sparsity?" in shown.out
