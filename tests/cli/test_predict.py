"""`predict` on files and pipes, and its answers handed to `eval`."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compresskit.evaluate.answer_files import read_predictions
from tests.cli.conftest import Run, Trained

CONTEXT = "Anna lives in Rome. She is a baker."
LINE = json.dumps({"id": "a", "question": "Where does Anna live?", "context": CONTEXT})


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


def test_a_squad_file_and_what_eval_makes_of_its_answers(trained: Trained, place: Path, run: Run) -> None:
    lines = predicted(run, trained.dense, "--input", trained.eval_data)
    assert predicted(run, trained.dense, "--input", trained.eval_data, "-o", "answers.json") == []
    assert json.loads(Path("answers.json").read_text()) == {line["id"]: line["text"] for line in lines}
    Path("own.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = read_predictions(Path("own.jsonl"))
    assert {key: each.text for key, each in found.items()} == {
        key: e.text for key, e in read_predictions(Path("answers.json")).items()
    }
    words = ("eval", trained.dense, "own.jsonl", "answers.json", "--data", trained.eval_data, "--device", "cpu")
    rows = json.loads(run(*words, "--format", "json", "--latency-questions", "0").out)["rows"]
    assert len({(row["em"], row["f1"]) for row in rows}) == 1
    assert rows[0]["best_em"] == rows[1]["best_em"] is not None
    assert rows[2]["best_em"] is None


def test_questions_from_a_pipe(trained: Trained, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (f"{LINE}\n", Path(trained.eval_data).read_text()):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
        found = predicted(run, trained.dense, "--input", "-")
        assert (found[0]["id"] == "a", len(found) > 1) == (
            text != Path(trained.eval_data).read_text(),
            found[0]["id"] != "a",
        )
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"Who?\n")))
    done = run("predict", trained.dense, "--input", "-")
    assert (done.code, done.err.startswith("error: standard input, line 1: not an object with")) == (3, True)


def test_where_answers_may_not_go(trained: Trained, place: Path, refused) -> None:
    Path("lines.jsonl").write_text(f"{LINE}\n{LINE}\n")
    words = ("predict", trained.dense, "--input", "lines.jsonl", "-o")
    assert "two questions have the id 'a'" in refused(3, *words, "out.json")
    assert "is lines.jsonl, which is read" in refused(2, *words, "lines.jsonl")
    assert "lies in" in refused(2, *words, trained.dense / "answers.json")
    assert "has no effect without --input" in refused(2, "predict", trained.dense, "-q", "a", "-c", "b", "-o", "x.json")
