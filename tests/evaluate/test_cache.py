"""What is kept of evaluations: the limit, what goes first, and what stays."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compresskit.checkpoint.seal import SEAL
from compresskit.errors import UsageError
from compresskit.evaluate import cache as module
from compresskit.evaluate.cache import Cache, cache_limit
from compresskit.evaluate.cache_place import FOLDER_VARIABLE
from compresskit.evaluate.measurement import OUTCOME_FILE, PREDICTIONS_FILE, Outcome
from compresskit.evaluate.row import Dataset, Row

DATASET = Dataset("eval.json", "0" * 64, 1, 0)
DAY = 24 * 3600.0

Keep = Callable[..., Path]


def key(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the entries, in which nothing is kept yet."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(module.SIZE_VARIABLE, raising=False)
    return tmp_path / "cache" / "eval"


@pytest.fixture
def keep(home: Path, tmp_path: Path) -> Keep:
    """Keep an entry with answers of at least 1000 bytes, as an evaluation of its own or as `by`, so many days ago."""
    made = tmp_path / "made"
    made.mkdir()
    (made / PREDICTIONS_FILE).write_text(json.dumps({"q": "x" * 1000}))

    def command(number: int, days: float = 0.0, by: Cache | None = None) -> Path:
        row = Row(f"row {number}", "path", "encoder", "train", False, em=50.0)
        outcome = Outcome(row=row, question_em=[1.0], question_f1=[1.0], paragraph=[0])
        entry = (by or Cache()).keep(key(number), outcome, made, DATASET)
        assert entry is not None
        os.utime(entry, (time.time() - days * DAY,) * 2)
        return entry

    return command


def kept(home: Path) -> set[int]:
    return {int(path.name, 16) for path in home.iterdir()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("500MB", 500_000_000), ("500 mb", 500_000_000), ("2GB", 2 * 10**9), ("1.5KiB", 1536), ("0", 0)),
        *(("1234", 1234), ("", 10**9)),
    ],
)
def test_the_limit_is_a_size(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.SIZE_VARIABLE, text)
    assert cache_limit() == expected


@pytest.mark.parametrize("text", ["much", "5XB", "-1GB", "1e3", "1GB2", "GB"])
def test_what_is_not_a_size_is_wrong_usage(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.SIZE_VARIABLE, text)
    with pytest.raises(UsageError, match=f"{module.SIZE_VARIABLE}='{text}'"):
        Cache()


def test_the_limit_is_a_gigabyte_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(module.SIZE_VARIABLE, raising=False)
    assert cache_limit() == 10**9


def test_what_is_kept_is_fetched(home: Path, keep: Keep, tmp_path: Path) -> None:
    entry = keep(1)
    fetched = Cache().fetch(key(1), tmp_path)
    assert fetched == Outcome.read(entry)
    assert (tmp_path / PREDICTIONS_FILE).read_bytes() == (entry / PREDICTIONS_FILE).read_bytes()
    assert Cache().fetch(key(2), tmp_path) is None
    (found,) = Cache().entries()
    assert (found.folder, found.data(), found.outcome()) == (entry, "eval.json", fetched)
    assert found.bytes == sum(path.stat().st_size for path in entry.iterdir())
    assert {path.name for path in entry.iterdir()} == {OUTCOME_FILE, PREDICTIONS_FILE, module.DATASET_FILE, SEAL}


def test_what_was_not_used_for_longest_goes(
    home: Path, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        keep(number, days=10 - number)
    size = Cache().entries()[0].bytes
    assert Cache().fetch(key(1), tmp_path) is not None  # and thereby used now
    monkeypatch.setenv(module.SIZE_VARIABLE, str(3 * size + size // 2))
    keep(4)
    assert kept(home) == {1, 3, 4}
    assert [entry.folder.name for entry in Cache().entries()] == [key(number) for number in (4, 1, 3)]
    monkeypatch.setenv(module.SIZE_VARIABLE, "1")
    keep(5)
    assert kept(home) == {5}  # the one just written stays, however little there is room


def test_what_an_evaluation_has_used_stays_while_it_runs(
    home: Path, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        keep(number, days=9)
    monkeypatch.setenv(module.SIZE_VARIABLE, "1")
    running = Cache()
    assert running.fetch(key(1), tmp_path) is not None
    keep(3, by=running)
    keep(4, by=running)
    assert kept(home) == {1, 3, 4}


def test_removals_by_others_do_no_harm(home: Path, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry goes between any two looks at it: then it was not there, or only its copy counts."""
    entry = keep(1)
    copied = shutil.copyfile

    def vanish(source: Path, target: Path) -> None:
        shutil.rmtree(entry)
        copied(source, target)

    monkeypatch.setattr(shutil, "copyfile", vanish)
    assert Cache().fetch(key(1), tmp_path) is None
    monkeypatch.setattr(shutil, "copyfile", copied)
    keep(1)
    looked = Cache()
    found = looked.entries()
    monkeypatch.setattr(looked, "entries", lambda: found)
    shutil.rmtree(entry)
    assert len(looked.clear()) == 1
    keep(2, by=looked)  # counts the entry that is gone
    assert kept(home) == {2}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (OUTCOME_FILE, "{"),
        (OUTCOME_FILE, "[]"),
        (OUTCOME_FILE, '{"row": null}'),
        (OUTCOME_FILE, None),
        (PREDICTIONS_FILE, '{"q": "x'),
        (PREDICTIONS_FILE, "{}"),
        (PREDICTIONS_FILE, None),
    ],
)
def test_a_damaged_entry_is_none(file: str, content: str | None, home: Path, keep: Keep, tmp_path: Path) -> None:
    entry = keep(1)
    if content is None:
        (entry / file).unlink()
    else:
        (entry / file).write_text(content)
    assert Cache().fetch(key(1), tmp_path) is None
    assert Cache().entries()[0].outcome() is None
    keep(1)
    assert Cache().fetch(key(1), tmp_path) is not None


def row_with(number: float) -> str:
    """The outcome of `keep` with another EM."""
    row = Row("row 1", "path", "encoder", "train", False, em=number)
    return Outcome(row=row, question_em=[1.0], question_f1=[1.0], paragraph=[0]).to_json()


@pytest.mark.parametrize("file", [OUTCOME_FILE, PREDICTIONS_FILE, module.DATASET_FILE, SEAL])
@pytest.mark.parametrize("content", [row_with(-1e308), row_with(51.0), "[" * 100_000, "{}", "\0", "a pipe", "a folder"])
def test_a_damaged_entry_means_to_measure_again(
    file: str, content: str, home: Path, keep: Keep, tmp_path: Path
) -> None:
    path = keep(1) / file
    path.unlink()
    if content == "a pipe":
        os.mkfifo(path)
    elif content == "a folder":
        path.mkdir()
    else:
        path.write_text(content)
    assert Cache().fetch(key(1), tmp_path) is None
    (entry,) = Cache().entries()
    assert (entry.outcome(), entry.data()) == (None, None)
    keep(1)
    assert Cache().fetch(key(1), tmp_path) is not None


def test_one_warning_where_nothing_can_be_kept(
    home: Path, keep: Keep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "seal", full)
    cache = Cache()
    for number in (1, 2):
        with pytest.raises(AssertionError):
            keep(number, by=cache)
    assert capsys.readouterr().err.count("nothing can be kept there (No space left on device); set") == 1
    assert list(home.iterdir()) == []


def test_only_entries_are_ever_removed(home: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user may have named a folder in which there are other things."""
    (home / "mine").mkdir(parents=True)
    (home / "mine" / "data.json").write_text("x" * 5000)
    (home / key(7)).write_text("a file")
    monkeypatch.setenv(module.SIZE_VARIABLE, "1")
    keep(1, days=5)
    keep(2)
    assert [entry.folder.name for entry in Cache().clear()] == [key(2)]
    assert {path.name for path in home.iterdir()} == {"mine", key(7)}


def test_clear_by_age(home: Path, keep: Keep) -> None:
    for number in range(4):
        keep(number, days=number)
    assert {int(entry.folder.name, 16) for entry in Cache().clear(1.5)} == {2, 3}
    assert kept(home) == {0, 1}
    assert len(Cache().clear()) == 2
    assert Cache().clear() == []


def test_there_is_no_cache_yet(home: Path) -> None:
    assert (Cache().entries(), Cache().clear()) == ([], [])
    assert not home.exists()
