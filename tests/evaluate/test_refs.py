"""References to checkpoints: which mean the same one, and what they are called."""

import os
from pathlib import Path

import pytest

from compresskit.evaluate.refs import judged, same, unique_names, with_baseline


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/model", "b/model", "c/other"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_are_short_and_unique(folder: Path) -> None:
    refs = [str(folder / name) for name in ("a/model", "b/model", "c/other")]
    names = unique_names([*refs, "bert", "owner/name"])
    assert names == ["a/model", "b/model", "other", "bert", "owner/name"]


def test_a_folder_is_the_same_by_each_of_its_paths(folder: Path) -> None:
    os.symlink("a/model", "link")
    assert same("a/model", str(folder / "b" / ".." / "a" / "model"))
    assert same("a/model", "link")
    assert not same("a/model", "b/model")
    assert same("owner/name", "owner/name")
    assert not same("owner/name", "owner/other")


@pytest.mark.parametrize(
    ("checkpoints", "baseline", "measured", "held"),
    [
        (["a/model", "./a/model", "b/model"], None, ["a/model", "b/model"], ["a/model", "b/model"]),
        (["b/model"], "a/model", ["a/model", "b/model"], ["b/model"]),
        (["b/model", "a/model"], "./a/model", ["b/model", "a/model"], ["b/model"]),
    ],
)
def test_each_is_measured_once_and_the_baseline_is_not_judged(
    checkpoints: list[str], baseline: str | None, measured: list[str], held: list[str], folder: Path
) -> None:
    assert with_baseline(checkpoints, baseline) == measured
    assert judged(checkpoints, [] if baseline is None else [baseline]) == held
