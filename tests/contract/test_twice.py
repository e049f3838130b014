"""The same run leaves the same bytes, in whatever process; and so does the run that its manifest tells of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compresskit.recipe.replay import prepared
from compresskit.recipe.replay_options import ReplayOptions
from tests.contract import twice

pytestmark = pytest.mark.slow

TOGETHER = ("qlora-encoder-base", "qlora-seq2seq-base", "qlora-mamba-base", "prune-taught-teacher")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is made, by two processes, whose sets and dictionaries have other orders."""
    folder = tmp_path_factory.mktemp("twice")
    twice.models(folder / "root")
    for name, seed in (("one", "1"), ("two", "2")):
        (folder / name).mkdir()
        known = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        words = [sys.executable, "-m", "tests.contract.twice", str(folder / name)]
        subprocess.run(words, check=True, env=known, capture_output=True)
    return folder


@pytest.mark.parametrize("name", [*twice.CASES, *TOGETHER])
def test_two_processes_leave_the_same_bytes(name: str, place: Path) -> None:
    assert twice.unlike(place / "one" / name, place / "two" / name) == []


@pytest.mark.parametrize("name", [*twice.CASES, *TOGETHER])
def test_a_replay_is_the_same(name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "one")
    found = prepared(ReplayOptions(name, tmp_path / "again")).run()
    assert (found.verdict, found.settings, found.versions, found.choices, found.inputs) == ("same", "", {}, {}, {})
    assert twice.unlike(Path(name), tmp_path / "again") == []


@pytest.mark.parametrize("name", ["merge-mask", "quantize-calibrated", "qlora-encoder", "prune-built", "merge-int8"])
def test_the_whole_history_is_the_same(name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "one")
    replay = prepared(ReplayOptions(name, tmp_path / "again", all=True))
    assert len(replay.makings) == {"qlora-encoder": 2, "prune-built": 1}.get(name, 2)
    assert replay.run().verdict == "same"
