"""What becomes of scores: gates, checkpoints that could not be measured, and what `eval` refuses at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import MissingError
from compresskit.evaluate.row import Dataset, Report, Row
from tests.cli.conftest import Run, Trained, words_of


def unmeasured(*_: Any, **__: Any) -> Report:
    row = Row(name="dense", path="dense", family="-", method="-", baseline=False, error="its process was ended")
    return Report(created="now", versions={}, device={}, dataset=Dataset("d", "0", 1, 0), rows=(row,))


def test_a_result_that_cannot_be_scored_stays(trained: Trained, place: Path, run: Run, monkeypatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MissingError("no room")

    monkeypatch.setattr("compresskit.evaluate.evaluate.evaluate", fails)
    done = run(*words_of("train", trained.dense, trained), "--eval-data", trained.eval_data)
    assert done.code == 4
    assert done.err.splitlines()[-1] == "error: out is ready, but could not be scored: no room"
    assert [path.name for path in place.iterdir()] == ["out"]
    assert "em" not in json.loads((place / "out" / "compresskit.json").read_text())["steps"][-1]["metrics"]


def test_a_checkpoint_that_could_not_be_measured(trained: Trained, run: Run, monkeypatch) -> None:
    """The table comes all the same, and the exit code tells."""
    monkeypatch.setattr("compresskit.evaluate.evaluate.evaluate", unmeasured)
    done = run("eval", trained.dense, "--data", trained.eval_data)
    assert done.code == 5
    assert "its process was ended" in done.out
    assert done.err.startswith("error: dense could not be measured")


@pytest.mark.parametrize(("rule", "code"), [("em>=base-3", 0), ("em>=base-2", 1), ("memory<=1GB", 1)])
def test_a_gate_that_fails(rule: str, code: int, trained: Trained, run: Run, place: Path, monkeypatch) -> None:
    """Exit code 1, one line that names rule, row, figure and limit; the JSON is written all the same."""
    rows = (Row("dense", "d", "encoder", "train", True, em=80.0), Row("half", "h", "encoder", "smp", False, em=77.5))
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), rows)
    monkeypatch.setattr("compresskit.evaluate.evaluate.evaluate", lambda *_, **__: report)
    done = run("eval", "d", "h", "--data", trained.eval_data, "--baseline", "d", "--gate", rule, "-o", "e.json")
    assert done.code == code
    written = json.loads((place / "e.json").read_text())
    assert written["passed"] is (code == 0)
    assert [gate["row"] for gate in written["gates"]] == ["half"]
    if code:
        assert done.err.startswith(f"error: {rule} fails for half (")
        assert done.err.count("\n") == 1


def test_files_beside_the_table(trained: Trained, run: Run, place: Path, monkeypatch) -> None:
    """The verdicts for CI, and the summary of a GitHub Actions job, to which other steps have written before."""
    rows = (Row("dense", "d", "encoder", "train", True, em=80.0), Row("half", "h", "encoder", "smp", False, em=77.5))
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), rows)
    monkeypatch.setattr("compresskit.evaluate.evaluate.evaluate", lambda *_, **__: report)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    (place / "summary.md").write_text("before\n")
    words = ["eval", "d", "h", "--data", str(trained.eval_data), "--baseline", "d", "--gate", "em>=base-3"]
    done = run(*words, "--junit", "gates.xml", "--format", "csv")
    assert done.code == 0
    assert done.out.splitlines()[0].startswith("name,path,family,method,baseline,em")
    assert '<testcase classname="half" name="em&gt;=base-3" />' in (place / "gates.xml").read_text()
    assert (place / "summary.md").read_text().startswith("before\n| Name | Method | EM |")


# What eval refuses before it starts a process.


@pytest.mark.parametrize(
    ("code", "words", "line"),
    [
        (2, "eval --data DATA", "no checkpoint to evaluate; name at least one alias, Hub id or folder"),
        (2, "eval DENSE --data DATA --junit no/a.xml", "--junit no/a.xml: there is no folder no; make it first"),
        (2, "eval DENSE --data DATA -o no/where.json", "--output no/where.json: there is no folder no; make it first"),
        (2, "eval DENSE --data DATA --max-length 64 --stride 64", "stride 64 does not fit in max length 64"),
        (2, "eval DENSE --data DATA --gate em>=base", "--gate 'em>=base' compares with a baseline; name it with"),
        (2, "eval DENSE --data DATA --format pdf", "unknown format 'pdf'; choose from table, json"),
        (2, "eval DENSE --data DATA --gate em", "--gate 'em' is no rule"),
        (3, "eval DENSE --data nowhere.json", "nowhere.json: no such file"),
        (4, "eval DENSE --data nobody/nothing", "nobody/nothing: the Hugging Face Hub cannot be reached"),
    ],
)
def test_eval(code: int, words: str, line: str, trained: Trained, refused) -> None:
    known = {"DATA": str(trained.eval_data), "DENSE": str(trained.dense)}
    assert refused(code, *(known.get(word, word) for word in words.split())).startswith(line)
