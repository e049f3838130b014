"""What annotation tools and annotators' scripts write is read as it is meant, and what was mended is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from compresskit.data import building
from compresskit.data.examples import Answer, Example
from compresskit.data.json_pieces import Events, objects
from compresskit.data.mending import COUNTS, told
from compresskit.data.text_stream import TextStream
from compresskit.errors import InputError
from tests.data.reading import read

CONTEXT = "Ada wrote it in Kelby. Kelby is small. 1990"


def one(folder: Path, handling: Any = "stop", **fields: Any) -> Example:
    """The only question of a set, with these keys in the place of the usual ones; None takes a key away."""
    question = {"id": "a", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}], **fields}
    question = {key: value for key, value in question.items() if value is not ...}
    (found,) = read(folder, {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [question]}]}]}, handling)
    return found


def test_a_set_as_an_annotation_tool_writes_it(tmp_path: Path) -> None:
    text = """{"data":[{"paragraphs":[{"context":"Ada wrote it.","document_id":7,"qas":[
        {"id":401,"question":"Who?","answers":[{"answer_id":1,"text":"Ada","answer_start":0}],"is_impossible":false},
        {"id":402,"question":"Why?","answers":[{"text":"","answer_start":0}],"is_impossible":true}]}]}]}"""
    found = read(tmp_path, json.loads(text), "stop")
    assert [(each.id, each.title, each.answers) for each in found] == [
        ("401", "", (Answer("Ada", 0),)),
        ("402", "", ()),
    ]
    assert found.info.counts == {}


ADA = (Answer("Ada", 0),)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"text": "Ada", "answer_start": 0}, ADA),
        ([{"text": 1990, "answer_start": 39}], (Answer("1990", 39),)),
        ({"text": ["Ada", "Ada wrote"], "answer_start": [0, "0"]}, (*ADA, Answer("Ada wrote", 0))),
        ([{"text": "Kelby", "answer_start": "16"}], (Answer("Kelby", 16),)),
        ([{"text": "Kelby", "answer_start": 16.0}], (Answer("Kelby", 16),)),
        ([{"text": "Kelby", "answer_start": [16]}], (Answer("Kelby", 16),)),
        ([{"text": "", "answer_start": 0}], ()),
        ({"text": [], "answer_start": []}, ()),
        ({"text": "", "answer_start": -1}, ()),
        ([], ()),
        (None, ()),
        (..., ()),
    ],
)
def test_answers_in_every_shape(tmp_path: Path, answers: object, expected: tuple[Answer, ...]) -> None:
    found = one(tmp_path, answers=answers)
    assert found.answers == expected
    assert found.is_impossible == (not expected)


@pytest.mark.parametrize("said", [1, "true", "True", "1", 1.0, "yes", True])
def test_impossible_in_every_shape(tmp_path: Path, said: object) -> None:
    assert one(tmp_path, answers=[], is_impossible=said).is_impossible
    with pytest.raises(InputError, match="'is_impossible' is true, but there are answers"):
        one(tmp_path, is_impossible=said)


@pytest.mark.parametrize("said", [0, "false", "0", 0.0, None, "", ...])
def test_possible_in_every_shape(tmp_path: Path, said: object) -> None:
    assert one(tmp_path, is_impossible=said).answers == ADA


@pytest.mark.parametrize("said", [2, 0.5, "maybe", [], {}])
def test_what_may_mean_anything_is_refused(tmp_path: Path, said: object) -> None:
    with pytest.raises(InputError, match=r"'is_impossible' is .*, not true or false"):
        one(tmp_path, is_impossible=said)


@pytest.mark.parametrize(("id", "expected"), [(7, "7"), (7.0, "7"), (10**30, str(10**30))])
def test_ids_that_are_numbers(tmp_path: Path, id: object, expected: str) -> None:
    assert one(tmp_path, id=id).id == expected


def test_ids_made_of_the_content(tmp_path: Path) -> None:
    def ids(*questions: str) -> list[str]:
        qas = [{"question": question, "answers": []} for question in questions]
        return [each.id for each in read(tmp_path, {"data": [{"paragraphs": [{"context": CONTEXT, "qas": qas}]}]})]

    who, why, again = ids("Who?", "Why?", "Who?")
    assert len({who, why, again}) == 3
    assert again == f"{who}-2"
    assert ids("Why?", "When?", "Who?")[::2] == [why, who], "whatever stands beside it"


def test_what_is_counted(tmp_path: Path) -> None:
    qas = [
        {"question": "Who?", "answers": []},
        {"id": "b", "question": "Where?", "answers": [{"text": "Kelby", "answer_start": 20}]},
        {"id": "c", "question": "Where?", "answers": ["kelby  is"]},
        {"id": "d", "question": "Where?", "answers": [{"text": "Paris", "answer_start": 3}]},
    ]
    content = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": qas}]}]}
    counts = {"made_ids": 1, "unmarked": 1, "nearest": 1, "absent": 1, "nowhere": 1}
    mended = read(tmp_path, content)
    assert mended.info.counts == {**counts, "skipped": 1}
    assert [each.answers for each in mended] == [(), (Answer("Kelby", 23),), (Answer("Kelby is", 23),)]
    scored = read(tmp_path, content, "score")
    assert scored.info.counts == counts
    assert [each.answers[0] for each in scored if each.answers] == [
        Answer("Kelby", 23),
        Answer("kelby  is", 23),
        Answer("Paris", -1),
    ]
    skipped = read(tmp_path, content, "skip")
    assert skipped.info.counts == {**counts, "skipped": 3}
    assert len(skipped) == 1
    with pytest.raises(InputError, match=r"question 'b'.*its first occurrence is at 16"):
        read(tmp_path, content, "stop")
    assert len(told(mended.info.counts)) == 6
    assert set(mended.info.counts) <= set(COUNTS)


def test_a_long_context_full_of_wrong_offsets_is_not_looked_through_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [{"text": "Kelby", "answer_start": 20}] * 4
    content = {
        "data": [{"paragraphs": [{"context": CONTEXT, "qas": [{"id": "a", "question": "W", "answers": answers}]}]}]
    }
    monkeypatch.setattr(building, "MOST_SOUGHT", 4 * len(CONTEXT))
    assert len(read(tmp_path, content)) == 1
    monkeypatch.setattr(building, "MOST_SOUGHT", 4 * len(CONTEXT) - 1)
    with pytest.raises(InputError, match=r"question 'a'.*too many answers .*; split it"):
        read(tmp_path, content)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1 << 20])
def test_what_python_writes_for_no_number_is_null(tmp_path: Path, chunk: int) -> None:
    context = 'Ada: NaN, "-Infinity" and \\" wrote [NaN] it.'
    value = {"x": float("nan"), "context": context, "y": [float("-inf"), float("inf")]}
    path = tmp_path / "set"
    path.write_text(json.dumps([value]), "utf-8")
    with TextStream(path, "set") as stream:
        (found,) = objects(Events(stream, chunk=chunk), "item")
    assert found == {"x": None, "context": context, "y": [None, None]}


def test_a_set_that_pandas_made_with_nothing_in_some_keys(tmp_path: Path) -> None:
    found = one(
        tmp_path, "mend", is_impossible=float("nan"), answers=[{"text": "Kelby", "answer_start": float("nan")}], x=[]
    )
    assert found.answers == (Answer("Kelby", 16),)
