"""A check of data: every fault at once, by the reading that training uses, with its place and its mend."""

import copy
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compresskit.data import check_text, reading
from compresskit.data.check import Spread, check, json_lines, require_usable, spread, summary
from compresskit.data.examples import ExampleSet
from compresskit.data.findings import FAULTS, KINDS, NOTES, Findings
from compresskit.errors import InputError
from tests.data.reading import read

CONTEXT = "Ada wrote it in Kelby. Ada left Kelby."


def asked(id: str, *answers: tuple[str, Any], **more: Any) -> dict[str, Any]:
    told = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": id, "question": f"{id}?", "answers": told, "is_impossible": not answers, **more}


def squad(*qas: dict[str, Any]) -> dict[str, Any]:
    return {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [*qas]}]}]}


@contextmanager
def checked(folder: Path, data: bytes | object, shown: int = 5) -> Iterator[tuple[ExampleSet, Findings]]:
    path = folder / "set.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    with Findings(shown) as findings:
        yield check(str(path), "train", findings), findings


def found(folder: Path, data: bytes | object) -> list[tuple[str, str]]:
    """The kind and the place (as jq has it, else in words) of each finding."""
    with checked(folder, data) as (_, findings):
        return [(each["kind"], each["path"] or each["place"]) for each in findings.all()]


FIRST, SECOND = ".data[0].paragraphs[0]", ".data[0].paragraphs[1]"


def test_all_faults_of_one_file(tmp_path: Path) -> None:
    qas: list[Any] = [
        asked("right", ("Ada", 0)),
        asked("right", ("Ada", 23)),
        asked("near", ("Kelby", 14)),
        asked("white", (" Ada", 0)),
        asked("loose", ("ADA  wrote", 0)),
        asked("nowhere", ("Bob", 3), ("Ada", 0)),
        asked("absent", ("left", None)),
        asked("offset", ("left", "there")),
        asked("unmarked") | {"is_impossible": False},
        {key: value for key, value in asked("none").items() if key != "id"},
        asked("both", ("Ada", 0)) | {"is_impossible": True},
        asked("number") | {"question": 7},
        7,
    ]
    document: Any = squad(*qas)
    document["data"][0]["paragraphs"] += [{"context": " ", "qas": [asked("lost"), asked("seven") | {"question": 7}]}]
    document["data"][0]["paragraphs"] += [8, {"context": "No questions."}, {"context": f"{CONTEXT} ", "qas": []}]
    again = {"context": CONTEXT.replace(" ", "  ").upper(), "qas": [asked("RIGHT")]}
    document["data"] += [9, [[]], {"title": "no paragraphs"}, {"paragraphs": "none"}, {"paragraphs": [again]}]
    assert found(tmp_path, document) == [
        ("nearest", f"{FIRST}.qas[2]"),
        ("white_space", f"{FIRST}.qas[3]"),
        ("loose", f"{FIRST}.qas[4]"),
        ("nowhere", f"{FIRST}.qas[5]"),
        ("absent", f"{FIRST}.qas[6]"),
        ("absent", f"{FIRST}.qas[7]"),
        ("unmarked", f"{FIRST}.qas[8]"),
        ("made_ids", f"{FIRST}.qas[9]"),
        *[("unreadable", f"{FIRST}.qas[{number}]") for number in (10, 11, 12)],
        ("unreadable", SECOND),
        ("unreadable", f"{SECOND}.qas[1]"),
        ("unreadable", ".data[0].paragraphs[2]"),
        ("unreadable", ".data[0].paragraphs[3]"),
        *[("unreadable", f".data[{number}]") for number in (1, 2, 3, 4)],
        ("same_id", f"{FIRST}.qas[1]"),
        ("same_question", f"{FIRST}.qas[1]"),
        ("same_question", ".data[5].paragraphs[0].qas[0]"),
        ("same_context", ".data[5].paragraphs[0].qas[0]"),
    ]


ROWS = {
    ("row", 0): b'[{"context": "Ada.", "question": 1}, 7, {"context": "Ada.", "question": "?"}, {"question": "?"}]',
    ("line", 1): b'{"context": "Ada.", "question": 1}\n7\n{"context": "Ada.", "question": "?"}\n{"question": "?"}',
}


@pytest.mark.parametrize(("word", "first"), ROWS)
def test_all_faults_of_rows(tmp_path: Path, word: str, first: int) -> None:
    """Of an array their place in it is told, of JSON lines the line."""
    places = [f"{word} {number}" for number in range(first, first + 4)]
    kinds = ("unreadable", "unreadable", "made_ids", "unreadable")
    assert found(tmp_path, ROWS[word, first]) == list(zip(kinds, places, strict=True))


def test_all_faults_of_a_table(tmp_path: Path) -> None:
    lines = 'id,context,question\n1,Ada.\n2,,?\n3,"A"da.,?\n4,Ada.,?\n'
    places = ("line 2", "line 3, question '2'", "line 4")
    assert found(tmp_path, lines.encode()) == [("unreadable", place) for place in places]


def test_what_breaks_off_is_checked_up_to_there(tmp_path: Path) -> None:
    document: Any = squad(asked("a", ("Kelby", 0)))
    document["data"][0]["paragraphs"].append({"context": "x " * 1_000_000, "qas": []})
    text = json.dumps(document).encode()
    for data in (text[:-100], gzip.compress(text)[:-12]):
        with checked(tmp_path, data) as (examples, findings):
            assert [each["kind"] for each in findings.all()] == ["nearest", "unreadable"]
            assert not findings.is_whole
            assert summary("set", None, examples, findings)["sha256"] is None


@pytest.mark.parametrize("data", [b"", b"{}", b'{"data": []}', b'{"data": [{"paragraphs": []}]}', b"\xff\xff"])
def test_nothing_to_read(tmp_path: Path, data: bytes) -> None:
    with checked(tmp_path, data) as (examples, findings):
        assert findings.counts["unreadable"] >= 1
        told = summary("set", None, examples, findings)
        assert (told["questions"], told["usable"]) == (0, False)
        assert list(check_text.lines(told, findings))


BROKEN: list[Callable[[Any], object]] = [
    lambda paragraph: paragraph["qas"][0].update(question=None),
    lambda paragraph: paragraph["qas"][0].update(is_impossible="perhaps"),
    lambda paragraph: paragraph["qas"][0].update(id=[1]),
    lambda paragraph: paragraph["qas"].append("?"),
    lambda paragraph: paragraph.update(qas=None),
    lambda paragraph: paragraph.update(context=""),
]


@pytest.mark.parametrize("breaking", BROKEN)
def test_the_check_says_what_training_says(tmp_path: Path, breaking: Callable[[Any], object]) -> None:
    document: Any = squad(asked("a", ("Ada", 0)))
    breaking(document["data"][0]["paragraphs"][0])
    with checked(tmp_path, document) as (_, findings):
        first = next(iter(findings.all()))
    with pytest.raises(InputError) as caught:
        reading.read(tmp_path / "set.json")
    assert str(caught.value) == f"{tmp_path / 'set.json'}: {first['place']} ({first['path']}): {first['message']}"


def test_the_mends_mend(tmp_path: Path) -> None:
    """Each answer put where its finding says: then all stands where it should, and training reads the same."""
    document = squad(asked("a", ("Kelby", 0), ("ada  WROTE", 1)), asked("b", ("left", None), (" Kelby. ", 15)))
    before = [(each.id, each.answers) for each in read(tmp_path, document)]
    mended = copy.deepcopy(document)
    with checked(tmp_path, document) as (_, findings):
        for each in findings.all():
            question = next(one for one in mended["data"][0]["paragraphs"][0]["qas"] if one["id"] == each["id"])
            question["answers"][each["answer"]] = each["mend"]
    assert found(tmp_path, mended) == []
    assert [(each.id, each.answers) for each in read(tmp_path, mended, "stop")] == before


def test_offsets_of_another_unit(tmp_path: Path) -> None:
    document = squad(asked("a", ("Zoë", 0), ("wrote", 5)))
    document["data"][0]["paragraphs"][0]["context"] = "Zoë wrote."
    with checked(tmp_path, document) as (examples, findings):
        assert summary("set", None, examples, findings)["offsets_count"] == "bytes"
        (each,) = findings.all()
    assert (each["kind"], each["mend"]) == ("units", {"text": "wrote", "answer_start": 4})


def test_the_first_of_each_kind_are_shown_and_all_are_kept(tmp_path: Path) -> None:
    document = squad(*(asked(f"q{number}", ("Kelby", 0)) for number in range(20)))
    with checked(tmp_path, document, shown=3) as (examples, findings):
        told = summary("set", None, examples, findings)
        text = "\n".join(check_text.lines(told, findings))
        whole = json.loads("\n".join(json_lines(told, findings)))
    assert [f"question 'q{number}'" in text for number in range(4)] == [True] * 3 + [False]
    assert "… and 17 more" in text
    assert len(whole.pop("findings")) == 20
    assert whole == told
    assert told["training"] == {
        "mend": {"questions": 20, "left_out": 0},
        "skip": {"questions": 0, "left_out": 20},
        "stop": False,
    }


def test_what_cannot_be_used_without_loss() -> None:
    for kind in KINDS:
        if kind in FAULTS:
            with pytest.raises(InputError, match=r"^set cannot be used without loss \(.*: 2\); correct"):
                require_usable("set", {kind: 2})
        else:
            require_usable("set", {kind: 2})
    assert set(NOTES).isdisjoint(FAULTS)


def test_a_spread_is_that_of_numpy() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 999)
    assert spread(lengths) == Spread(float(np.median(lengths)), float(np.percentile(lengths, 95)), int(max(lengths)))
    assert spread(lengths[:0]) is None
