"""The record of a blind set: nothing in it is lost or doubled, whoever writes, and what was changed is told."""

import hashlib
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.evaluate.blind_record import ENDING, Book, Entry, check_not_blind, check_record, opened, record_of

DATA = "d" * 64
ENTRY = Entry(
    scored="2026-11-30T00:00:00+00:00",
    data=DATA,
    path="held.json",
    questions=10,
    checkpoint="a" * 64,
    name="small",
    place="runs/small",
    base="dense",
    steps=("train", "prune/smp"),
    look=1,
    figures={"em": 70.0, "f1": 75.0},
    overlap={"questions": 1, "paragraphs": 0},
    settings={"max_length": 384},
    versions={"torch": "2"},
)


def another(number: int, **changes: Any) -> Entry:
    return replace(ENTRY, checkpoint=f"{number:064x}", **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / f"held.json{ENDING}"


def add(path: Path, *entries: Entry) -> None:
    with opened(path) as book:
        for entry in entries:
            book.add(replace(entry, look=book.next_look(entry)))


def test_what_is_written_is_read_again(path: Path) -> None:
    add(path, ENTRY, another(2, overlap=None, base=None, steps=()))
    with opened(path) as book:
        assert book.entries[0] == ENTRY
        assert book.of(ENTRY.checkpoint, DATA) == (ENTRY, 1)
        assert book.of(ENTRY.checkpoint, "e" * 64) is None
        assert book.of("c" * 64, DATA) is None
        assert book.checkpoints(DATA) == 2
    lines = path.read_text().splitlines()
    assert [json.loads(line)["schema"] for line in lines] == ["compresskit.blind/1"] * 2


def test_the_runs_of_a_row_are_one_look(path: Path) -> None:
    """Whether or not their bases have one name; what comes after them is the second."""

    def seeds(first: int) -> list[Entry]:
        runs = tuple(sorted(f"{number:064x}" for number in (first, first + 1, first + 2)))
        made = [another(first + at, name=f"small-seed{at}", base=f"dense-seed{at // 2}") for at in range(3)]
        return [replace(each, runs=runs) for each in made]

    add(path, *seeds(10), *seeds(20), another(30, base="dense-seed1"))
    with opened(path) as book:
        assert [entry.look for entry in book.entries] == [1, 1, 1, 2, 2, 2, 3]
        looks = [book.of(entry.checkpoint, DATA) for entry in book.entries]
        assert looks == [(entry, entry.look) for entry in book.entries]


@pytest.mark.parametrize(
    ("second", "look"),
    [
        (another(2), 2),
        (another(2, base="other"), 2),  # of one name
        (another(2, name="else"), 2),  # made the same way
        (another(2, name="else", base="other"), 1),
        (another(2, name="else", steps=("train",)), 1),
        (another(2, name="else", steps=(), base=None), 1),
        (another(2, data="e" * 64), 1),
    ],
)
def test_looks_are_those_of_one_lineage_on_one_set(second: Entry, look: int, path: Path) -> None:
    add(path, ENTRY, second)
    with opened(path) as book:
        assert book.of(second.checkpoint, second.data) == (replace(second, look=look), look)
        assert book.of(ENTRY.checkpoint, DATA) == (ENTRY, 1)


def test_a_lost_line_makes_no_set_blind_again(path: Path) -> None:
    add(path, *(another(number) for number in range(1, 5)))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[3])
    with opened(path) as book:
        assert book.of(f"{4:064x}", DATA) == (another(4, look=4), 4)
        assert book.next_look(ENTRY) == 5


def test_two_branches_that_were_merged_count_as_both(path: Path) -> None:
    add(path, another(1))
    first = path.read_bytes()
    add(path, another(2))
    ours = path.read_bytes()
    path.write_bytes(first)
    add(path, another(3))
    path.write_bytes(ours + path.read_bytes().removeprefix(first))
    with opened(path) as book:
        assert [entry.look for entry in book.entries] == [1, 2, 2]
        assert book.of(f"{3:064x}", DATA) == (another(3, look=2), 3)
        assert book.next_look(ENTRY) == 4


@pytest.mark.parametrize(
    "changes",
    [{"figures": {"em": 70.0}}, {"figures": {"em": "70", "f1": 1.0}}, {"look": 0}, {"more": 1}, {"name": None}],
)
def test_a_line_that_somebody_made_up(changes: dict[str, Any], path: Path) -> None:
    value = {**json.loads(ENTRY.to_line()), **changes}
    del value["sha256"]
    path.write_text(json.dumps({**value, "sha256": hashlib.sha256(json.dumps(value).encode()).hexdigest()}) + "\n")
    with pytest.raises(InputError, match="line 1 is not as it was written"), opened(path):
        pass


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda text: text.replace('"em": 70.0', '"em": 90.0', 1),
            "line 1 is not as it was written (its hash is another)",
        ),
        (
            lambda text: text.replace("compresskit.blind/1", "compresskit.blind/2", 1),
            "line 1 is not as it was written (it has no schema",
        ),
        (lambda text: "{}\n" + text, "line 1 is not as it was written (it has no schema"),
        (lambda text: text + "<<<<<<< HEAD\n", "line 3 "),
        (lambda text: text.replace("{", "[", 1), "line 1 "),
    ],
)
def test_a_line_that_is_not_as_it_was_written(damage: Any, told: str, path: Path) -> None:
    add(path, ENTRY, another(2))
    path.write_text(damage(path.read_text()))
    before = path.read_bytes()
    with pytest.raises(InputError) as caught, opened(path):
        pass
    assert f"{path}: {told}" in str(caught.value)
    assert path.read_bytes() == before
    path.write_text("")
    with opened(path) as book:  # the lock was given back
        assert not book.entries


def test_a_line_that_was_cut_goes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(path, ENTRY)
    with path.open("ab") as file:
        file.write(another(2).to_line().encode()[:50])
    add(path, another(3))
    assert "its last line was cut" in capsys.readouterr().err
    with opened(path) as book:
        assert [entry.checkpoint for entry in book.entries] == [ENTRY.checkpoint, f"{3:064x}"]


def test_one_at_a_time_and_no_line_is_lost(path: Path) -> None:
    held: list[int] = []
    most: list[int] = []

    def score(number: int) -> None:
        with opened(path) as book:
            held.append(number)
            most.append(len(held))
            time.sleep(0.01)
            if book.of(f"{number % 3:064x}", DATA) is None:
                book.add(another(number % 3))
            held.remove(number)

    threads = [threading.Thread(target=score, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    with opened(path) as book:
        assert sorted(entry.checkpoint for entry in book.entries) == [f"{number:064x}" for number in range(3)]


def test_who_waited_has_the_file_that_is_there_by_then(path: Path) -> None:
    """Somebody restores the record while it is locked: the next process reads that, and no line goes to the old one."""
    add(path, ENTRY)
    restored = path.read_bytes()
    started, found = threading.Event(), []

    def wait() -> None:
        started.set()
        with opened(path) as book:
            book.add(another(3))
            found.append(len(book.entries))

    with opened(path) as book:
        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        time.sleep(0.05)
        path.unlink()
        path.write_bytes(restored * 1)
        with pytest.raises(RunFailed, match="was replaced while a checkpoint was scored"):
            book.add(another(2))
    thread.join()
    assert found == [2]
    assert len(path.read_text().splitlines()) == 2


def test_a_full_disk_shows_no_figures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    with opened(path) as book:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunFailed, match="No space left on device"):
            book.add(ENTRY)
        assert isinstance(book, Book)
        assert not book.entries


def test_where_the_record_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = tmp_path / "held.json"
    held.write_text("{}")
    assert record_of(str(held)) == check_record(str(held), None, []) == tmp_path / "held.json.blind.jsonl"
    assert record_of(str(tmp_path)) == tmp_path.with_name(f"{tmp_path.name}.blind.jsonl")
    assert check_record("owner/name", tmp_path / "looks.jsonl", []) == tmp_path / "looks.jsonl"
    assert record_of("demo") is None
    with pytest.raises(UsageError, match="--blind owner/name is no file here"):
        check_record("owner/name", None, [])
    with pytest.raises(UsageError, match=f"--blind-record {tmp_path} is a folder"):
        check_record(str(held), tmp_path, [])
    with pytest.raises(UsageError, match="make it first"):
        check_record(str(held), tmp_path / "nowhere" / "looks.jsonl", [])
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda place, how: False if Path(place) == tmp_path else allowed(place, how))
    with pytest.raises(UsageError, match="may not be written to"):
        check_record(str(held), None, [])
    (tmp_path / "held.json.blind.jsonl").touch()
    assert check_record(str(held), None, [])  # its folder need not be written to
    record = tmp_path / "held.json.blind.jsonl"
    monkeypatch.setattr(os, "access", lambda place, how: Path(place) != record)
    with pytest.raises(UsageError, match="may not be written to"):
        check_record(str(held), None, [])


def test_a_blind_set_is_not_looked_at_otherwise(tmp_path: Path) -> None:
    held = tmp_path / "held.json"
    held.write_text("{}")
    check_not_blind(str(held), "--data")
    (tmp_path / "held.json.blind.jsonl").touch()
    with pytest.raises(UsageError, match="give it to eval with --blind"):
        check_not_blind(str(held), "--data")
