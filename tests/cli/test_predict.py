"""`predict` on files and pipes, and its answers handed to `eval`."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compresskit.data.load import load
from compresskit.evaluate.answer_files import read_predictions
from compresskit.evaluate.score import score
from tests.cli.conftest import Run, Trained

CONTEXT = "Anna lives in Rome. She is a baker."
SQUAD = {
    "data": [
        {
            "title": "Anna",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": name, "question": "Where does Anna live?", "answers": [], "is_impossible": True}
                        for name in ("a", "b")
                    ],
                }
            ],
        }
    ]
}
LINE = json.dumps({"id": "a", "question": "Where does Anna live?", "context": CONTEXT})


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a text on standard input."""

    def put(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))

    return put


def predicted(run: Run, *words: str | Path) -> list[dict[str, Any]]:
    done = run("predict", *words, "--device", "cpu")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_an_answer_has_a_place_and_a_probability(trained: Trained, run: Run) -> None:
    asked = (trained.dense, "-q", "Where does Anna live?", "-c", CONTEXT)
    (found,) = predicted(run, *asked, "--n-best", "3", "--null-threshold", "1e9")
    first = found["n_best"][0]
    for each in found["n_best"]:
        assert CONTEXT[each["start"] : each["end"]] == each["text"]
        assert 0 < each["probability"] < 1
    assert {key: found[key] for key in first} == first
    assert found["no_answer_probability"] + sum(each["probability"] for each in found["n_best"]) < 1  # of twenty
    (none,) = predicted(run, *asked, "--null-threshold", "-1e9")
    assert (none["text"], none["start"], none["end"], none["span_text"]) == ("", None, None, first["text"])
    assert none["probability"] == none["no_answer_probability"] == found["no_answer_probability"]


def test_a_squad_file_and_what_its_answers_are_worth(trained: Trained, place: Path, run: Run) -> None:
    lines = predicted(run, trained.dense, "--input", trained.eval_data)
    assert predicted(run, trained.dense, "--input", trained.eval_data, "-o", "answers.json") == []
    assert json.loads(Path("answers.json").read_text()) == {line["id"]: line["text"] for line in lines}
    Path("own.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    examples = load(str(trained.eval_data), "eval")
    own, official = (score(examples, read_predictions(Path(name))) for name in ("own.jsonl", "answers.json"))
    assert (own.em, own.f1) == (official.em, official.f1)
    assert own.best_em is not None
    assert official.best_em is None


@pytest.mark.parametrize(
    ("text", "count"), [(f"{LINE}\n", 1), (json.dumps(SQUAD), 2), (json.dumps(SQUAD, indent=1), 2)]
)
def test_questions_from_a_pipe(text: str, count: int, trained: Trained, run: Run, piped: Callable[[str], None]) -> None:
    piped(text)
    found = predicted(run, trained.dense, "--input", "-")
    assert [each["id"] for each in found] == ["a", "b"][:count]


def test_a_broken_line_from_a_pipe(trained: Trained, run: Run, piped: Callable[[str], None]) -> None:
    piped("Who?\n")
    done = run("predict", trained.dense, "--input", "-")
    assert (done.code, done.err.startswith("error: standard input: neither JSON nor a table")) == (3, True)


def test_where_answers_may_not_go(trained: Trained, place: Path, refused) -> None:
    Path("lines.jsonl").write_text(f"{LINE}\n{LINE}\n")
    words = ("predict", trained.dense, "--input", "lines.jsonl", "-o")
    assert "two questions have the id 'a'" in refused(3, *words, "out.json")
    assert "is lines.jsonl, which is read" in refused(2, *words, "lines.jsonl")
    assert "lies in" in refused(2, *words, trained.dense / "answers.json")
    assert "has no effect without --input" in refused(2, "predict", trained.dense, "-q", "a", "-c", "b", "-o", "x.json")
