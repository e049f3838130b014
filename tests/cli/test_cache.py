"""`compresskit cache`: the list, in both formats, and its end."""

import json
import os
import time
from pathlib import Path

import pytest

from compresskit.evaluate.cache import Cache
from compresskit.evaluate.measurement import OUTCOME_FILE, Outcome
from compresskit.evaluate.row import Dataset, Row
from tests.cli.conftest import Run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of three entries, used 0, 1 and 2 days ago; the last one is damaged."""
    monkeypatch.setenv("COMPRESSKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COMPRESSKIT_CACHE_SIZE", "2MB")
    kept = Cache()
    for days, em in enumerate((50.0, None, 70.0)):
        row = Row(f"model [{days}]", "path", "encoder", "train", False, em=em)
        entry = kept.keep(f"{days:064x}", Outcome(row=row), tmp_path, Dataset(f"data-{days}.json", "0" * 64, 1, 0))
        assert entry is not None
        if days == 2:
            (entry / OUTCOME_FILE).write_text("{")
        os.utime(entry, (time.time() - days * 24 * 3600,) * 2)
    return kept.folder


def test_the_list(home: Path, run: Run) -> None:
    done = run("cache", "ls")
    assert done.code == 0
    heading, _, *lines, total = [line.split() for line in done.out.splitlines()]
    assert heading == ["Checkpoint", "Data", "EM", "Size", "Last", "used"]
    assert [line[:4] for line in lines[:2]] == [
        ["model", "[0]", "data-0.json", "50.00"],
        ["model", "[1]", "data-1.json", "-"],
    ]
    assert lines[2][:3] == ["damaged", "-", "-"]
    assert total[:2] == ["3", "entries,"]
    assert total[-1] == str(home)
    assert "2.00 MB," in " ".join(total)


def test_the_list_as_json(home: Path, run: Run) -> None:
    told = json.loads(run("cache", "ls", "--format", "json").out)
    assert (told["folder"], told["limit_bytes"]) == (str(home), 2_000_000)
    assert told["bytes"] == sum(path.stat().st_size for path in home.rglob("*.json"))
    assert [(each["checkpoint"], each["data"], each["em"], each["damaged"]) for each in told["entries"]] == [
        ("model [0]", "data-0.json", 50.0, False),
        ("model [1]", "data-1.json", None, False),
        (None, None, None, True),
    ]
    assert sum(each["bytes"] for each in told["entries"]) == told["bytes"]


def test_clear(home: Path, run: Run) -> None:
    done = run("cache", "clear", "--older-than", "1.5")
    assert (done.code, done.out.split(",")[0]) == (0, "removed 1 entry")
    size = sum(path.stat().st_size for path in home.rglob("*.json"))
    done = run("cache", "clear")
    assert done.out.startswith("removed 2 entries, ")
    assert f"{size / 1000:.2f} kB" in done.out
    assert list(home.iterdir()) == []
    assert run("cache", "ls").out.startswith("0 entries, 0 B of at most 2.00 MB, in ")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["cache", "ls"], "COMPRESSKIT_CACHE_SIZE"),
        (["eval", "nothing", "--data", "demo"], "COMPRESSKIT_CACHE_SIZE"),
        (["cache"], "compresskit cache --help"),
        (["cache", "clear", "--older-than", "-1"], "--older-than"),
    ],
)
def test_wrong_usage(words: list[str], name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSKIT_CACHE_SIZE", "much")
    done = run(*words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert name in done.err
