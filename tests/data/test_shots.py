"""Examples before a question: which are drawn, and in which order."""

import itertools
import json
from pathlib import Path

import pytest

from compresskit.data.examples import ExampleSet
from compresskit.data.load import load
from compresskit.data.shots import drawn
from compresskit.errors import InputError


def questions(path: Path, answerable: int, others: int) -> ExampleSet:
    answers = [{"text": "Ada", "answer_start": 0}]
    qas = [
        {"id": str(number), "question": f"Who {number}?", "answers": answers * known, "is_impossible": not known}
        for number, known in enumerate([True] * answerable + [False] * others)
    ]
    document = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "Ada wrote.", "qas": qas}]}]}
    path.write_text(json.dumps(document))
    return load(str(path), "train")


@pytest.mark.parametrize("count", range(9))
def test_half_of_them_have_no_answer_in_turn(count: int, tmp_path: Path) -> None:
    examples = questions(tmp_path / "data.json", 20, 20)
    begun = set()
    for seed in range(12):
        found = drawn(examples, count, seed)
        sorts = [bool(example.answers) for example in found]
        assert len({example.id for example in found}) == count
        assert all(one != other for one, other in itertools.pairwise(sorts))
        assert found == drawn(examples, count, seed)
        begun |= set(sorts[:1])
    assert begun == ({True, False} if count else set())
    if count > 2:
        assert drawn(examples, count, 0) != drawn(examples, count, 1)


def test_where_one_sort_is_scarce_the_other_fills_up(tmp_path: Path) -> None:
    found = drawn(questions(tmp_path / "some.json", 6, 1), 5, 0)
    assert sum(not example.answers for example in found) == 1
    assert len(found) == 5
    assert all(example.answers for example in drawn(questions(tmp_path / "none.json", 6, 0), 5, 0))


def test_fewer_than_were_asked_for_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = questions(tmp_path / "few.json", 1, 1)
    assert len(drawn(examples, 2, 0)) == 2
    assert capsys.readouterr().err == ""
    assert len(drawn(examples, 5, 0)) == 2
    assert "has 2 examples to show, 5 were asked for" in capsys.readouterr().err


def test_examples_without_any_answer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no question with an answer to show"):
        drawn(questions(tmp_path / "data.json", 0, 6), 2, 0)
