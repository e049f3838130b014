"""What of the evaluation data stands in the training data, and that nothing is claimed where that is not known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compresskit.checkpoint.store import sha256_file
from compresskit.data.load import load
from compresskit.evaluate.overlap import told, with_overlap
from compresskit.evaluate.report import html
from compresskit.evaluate.report.table import notes
from compresskit.evaluate.row import Dataset, Report, Row

ASKED = [
    ("Ada wrote it in Kelby.", "Who wrote it?", "Ada"),
    ("Ada wrote it in Kelby.", "Where?", "Kelby"),
    ("Zoë left the hall.", "Who left?", "Zoë"),
    ("Zoë left the hall.", "Why?", None),
    ("Bo stayed.", "Who?", "Bo"),
]
TRAINED = [
    ("ADA wrote  it in Kelby.", "who WROTE it?", "ADA"),  # another case, other white space
    ("ADA wrote  it in Kelby.", "When?", None),
    ("Once Zoe\u0308 left the hall, and Bo too.", "Who left?", "Zoe\u0308"),  # the answer in another passage
    ("Once Zoe\u0308 left the hall, and Bo too.", "Why?", None),
    ("Once Zoe\u0308 left the hall, and Bo too.", "Who?", "Zoe\u0308"),
]


def written(path: Path, asked: list[tuple[str, str, str | None]]) -> Path:
    """JSON lines of contexts, questions, and answers that stand in them."""
    lines = [
        {"context": context, "question": question, "answers": [] if answer is None else [answer]}
        for context, question, answer in asked
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def row(*data: tuple[Path | str, str]) -> Row:
    steps: list[Any] = [{"method": "quantize", "data": None}]
    steps += [{"method": "train", "data": {"path": str(path), "sha256": sha256}} for path, sha256 in data]
    return Row("half", "half", "encoder", "train", False, manifest={"steps": steps})


@pytest.fixture
def asked(tmp_path: Path) -> Any:
    return load(str(written(tmp_path / "eval.jsonl", ASKED)), "eval")


def test_questions_and_paragraphs_that_were_trained_on_are_counted(tmp_path: Path, asked: Any) -> None:
    train = written(tmp_path / "train.jsonl", TRAINED)
    (found,) = with_overlap([row((train, sha256_file(train)))], asked)
    # A question counts with its paragraph or with an answer: "Why?" and "Who?" by themselves are not the same.
    assert found.overlap == {"questions": 2, "paragraphs": 1}
    folder = tmp_path / "folder"
    folder.mkdir()
    train.rename(folder / "train.jsonl")
    (found,) = with_overlap([row((folder, sha256_file(folder / "train.jsonl")))], asked)
    assert found.overlap == {"questions": 2, "paragraphs": 1}


def test_the_evaluation_data_themselves_are_known_by_their_hash_wherever_they_are(tmp_path: Path, asked: Any) -> None:
    gone = row((tmp_path / "gone.json", asked.info.sha256))
    (found,) = with_overlap([gone], asked)
    assert found.overlap == {"questions": 5, "paragraphs": 3}
    (found,) = with_overlap([gone], asked.select([0, 1]))
    assert found.overlap == {"questions": 2, "paragraphs": 1}


def test_what_cannot_be_looked_at_is_unknown(tmp_path: Path, asked: Any) -> None:
    train = written(tmp_path / "train.jsonl", TRAINED)
    apart = written(tmp_path / "apart.jsonl", [("Nobody came.", "Who came?", None)])
    broken = tmp_path / "broken.jsonl"
    broken.write_text(train.read_text() + '\n{"context": "x", "question": "y"')
    unread: list[tuple[Path | str, str]] = [
        (tmp_path / "gone", "0" * 64),
        (train, "0" * 64),
        (broken, sha256_file(broken)),
        (tmp_path, "0" * 64),
        ("owner/name", "0" * 64),
        ("/dev/zero", "0" * 64),
        ("/proc/kmsg", "0" * 64),  # whose reader waits for what the kernel may say one day
        ("x" * 5000, "0" * 64),
        ("a\0b", "0" * 64),
    ]
    known = (apart, sha256_file(apart))
    for data in unread:
        rows = [row(data), row(known), row(known, data), row(data, (train, sha256_file(train)))]
        found = [each.overlap for each in with_overlap(rows, asked)]
        assert found == [None, {"questions": 0, "paragraphs": 0}, None, {"questions": 2, "paragraphs": 1}]
    assert [each.overlap for each in with_overlap([row(), replace(row(), manifest=None)], asked)] == [None, None]


def test_overlap_is_told_below_the_table_and_on_the_page() -> None:
    some = replace(row(), name="some", overlap={"questions": 1, "paragraphs": 1_200})
    none = replace(row(), name="none", overlap={"questions": 0, "paragraphs": 0})
    unknown = replace(row(("gone", "0")), name="gone")
    demo = replace(row(("demo", "0")), name="demo")
    report = Report("now", {}, {}, Dataset("d", "0", 5, 0), (some, none, unknown, demo, replace(row(), name="foreign")))
    first, second = told(report)
    assert first.startswith("of these data 1 question and 1,200 paragraphs stand in the training data of some")
    assert second.endswith(": gone")
    assert [line for line in notes(report) if line in (first, second)] == [first, second]
    assert first in html.render(report)
    assert Report.from_json(report.to_json()) == report
