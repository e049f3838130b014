"""The questions of `predict`, in every form that data come in."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from compresskit.errors import InputError
from compresskit.evaluate.questions import PIPE, read_questions
from tests.data.test_forms import FORMS, ROWS


@pytest.mark.parametrize("form", FORMS)
def test_every_form_from_a_file_and_from_a_pipe(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "input"
    path.write_bytes(FORMS[form])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(FORMS[form])))
    for source in (path, PIPE):
        found = [(each.id, each.question, each.context) for each in read_questions(source)]
        assert found == [(row["id"], row["question"], row["context"]) for row in ROWS]


def test_neither_ids_nor_offsets_are_needed(tmp_path: Path) -> None:
    row = {"question": "?", "context": "Ada.", "answers": [{"text": "Bob", "answer_start": 9}]}
    (tmp_path / "input").write_text("\n".join(json.dumps({**row, **more}) for more in ({"id": "a"}, {"id": "a"}, {})))
    first, second, third = (each.id for each in read_questions(tmp_path / "input"))
    assert (first, second, third.startswith("made-")) == ("a", "a", True)


@pytest.mark.parametrize("text", ["", "Who?", '{"question": "?"}', '{"question": 1, "context": "a"}', '[{"question'])
def test_what_cannot_be_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    with pytest.raises(InputError, match=r"^standard input: "):
        read_questions(PIPE)
