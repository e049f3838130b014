"""The scripts of `examples/`, each run with few steps; without a network, and on a stand-in of the Hub."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest

import compresskit as ck
from compresskit.data import demo
from examples import custom_prompt, hub_overlay, own_data, sweep

FOLDER = Path(own_data.__file__).parent
RUN_HERE = ("custom_prompt.py", "hub_overlay.py", "own_data.py", "sweep.py")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in data, with few questions."""
    few = demo.DemoConfig(train_questions=48, eval_questions=24)
    monkeypatch.setattr(demo, "examples", functools.partial(demo.examples, config=few))


def test_each_script_is_run_and_listed() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(RUN_HERE)
    listed = (FOLDER / "README.md").read_text()
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("ci/*")]:
        assert f"({path.relative_to(FOLDER)})" in listed


@pytest.mark.usefixtures("measured_here")
def test_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = own_data.main(tmp_path, steps=2)
    assert (report.dataset.questions, report.dataset.unanswerable) == (6, 3)
    assert (tmp_path / "report.html").is_file()
    assert "reader" in capsys.readouterr().out
    steps = ck.Checkpoint(tmp_path / "reader").steps
    assert steps[-1].data is not None
    assert (steps[-1].data.questions, steps[-1].data.unanswerable) == (14, 7)


@pytest.mark.slow
def test_own_data_is_learned(tmp_path: Path) -> None:
    """As the script stands: the model finds the towns of people of whom it never read."""
    report = own_data.main(tmp_path)
    assert report[0].em is not None
    assert report[0].em > 60


@pytest.mark.slow
def test_custom_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    custom_prompt.main(tmp_path / "writer", steps=2)
    kept = ck.Checkpoint(tmp_path / "writer").steps[-1].config["prompt_template"]
    assert kept == custom_prompt.PROMPT.to_dict()
    assert "by another prompt: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("measured_here")
def test_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = sweep.main(tmp_path, steps=2, sparsities=(0.5, 0.9), limit=12)
    assert [row.name for row in report] == ["dense", "smp-0.5", "smp-0.9"]
    before = (tmp_path / "smp-0.9" / "compresskit.json").stat().st_mtime_ns
    capsys.readouterr()
    again = sweep.main(tmp_path, steps=2, sparsities=(0.5, 0.9), limit=12)
    assert (tmp_path / "smp-0.9" / "compresskit.json").stat().st_mtime_ns == before
    assert [row.em for row in again] == [row.em for row in report]
    shown = capsys.readouterr()
    assert "is complete already" in shown.err
    assert "smallest that holds: " in shown.out


class Hub:
    """A stand-in of the Hub's client: repositories are folders below `root`, named by a revision."""

    revision = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self) -> Hub:
        return self

    def create_repo(self, repo_id: str, *, exist_ok: bool) -> None:
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        assert commit_message
        shutil.copytree(folder_path, self.root / repo_id / self.revision)

    def snapshot_download(self, repo_id: str, revision: str | None = None, **_: Any) -> str:
        folder = self.root / repo_id / (revision or self.revision)
        assert folder.is_dir()
        return str(folder)


@pytest.mark.slow
def test_hub_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub_overlay, "HfApi", hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    found = hub_overlay.main("me", tmp_path / "runs", steps=2)
    assert (found.ref, found.kind) == ("me/demo-reader-half", "mask")
    assert found.base is not None
    assert (found.base.ref, found.base.revision) == ("me/demo-reader", hub.revision)
    shutil.rmtree(tmp_path / "runs")  # nothing of it is needed by those who open what is on the Hub
    assert ck.inspect("me/demo-reader-half", verify=True).remaining == pytest.approx(0.5, abs=0.01)
    assert ck.load("me/demo-reader-half", device="cpu").kind == "mask"
