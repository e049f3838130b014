"""Files of answers: written as they come, read back by anything that reads JSON."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import InputError
from compresskit.evaluate.answers import AnswersWriter, read_answers


@given(answers=st.dictionaries(st.text(), st.text(), max_size=5))
def test_what_is_written_is_read_back(answers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("answers") / "predictions.json"
    with AnswersWriter(path) as writer:
        for question, text in answers.items():
            writer.add(question, text)
    assert json.loads(path.read_text(encoding="utf-8")) == answers
    assert read_answers(path) == answers


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_bytes(rb'{"q1": "a\ud800", "q2": "\ud83d\ude00", "q3": "\\ud800"}')
    assert read_answers(path) == {"q1": "a\ufffd", "q2": "😀", "q3": "\\ud800"}


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json.gz"
    path.write_bytes(gzip.compress(b'{"q1": "Rome", "q2": ""}'))
    assert read_answers(path) == {"q1": "Rome", "q2": ""}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "cannot be read as JSON"),
        (b'{"q1": "Ro', "cannot be read as JSON"),
        (b"\xff\xfd", "not UTF-8"),
        (b'["Rome"]', "holds a list, not answers"),
        (b'{"q1": [{"text": "Rome", "probability": 0.9}]}', "the answer to 'q1' is a list, not a text"),
        (b'{"q1": null}', "the answer to 'q1' is null, not a text"),
    ],
)
def test_what_is_no_file_of_answers(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_answers(path)
    assert str(caught.value).startswith(f"{path}: {what}")
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_cut_file(tmp_path: Path) -> None:
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b'{"q1": "Rome"}')[:-6])
    for name in ("none.json", "cut.json.gz"):
        with pytest.raises(InputError, match=name):
            read_answers(tmp_path / name)
