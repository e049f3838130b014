"""What an evaluation says beside its report, and what it calls the files that it leaves."""

from pathlib import Path

import pytest

from compresskit.evaluate import evaluate as module
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.settings import EvalSettings


def test_gold_answers_that_are_too_long_are_told_once_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    settings = EvalSettings(max_answer_length=5)
    module._tell_too_long([Outcome(too_long=3), Outcome(too_long=7), Outcome(error="lost")], settings, "dev.json")
    told = capsys.readouterr().err
    assert told.startswith("warning: the gold answers to 7 questions of dev.json have more than 5 tokens")
    assert told.count("\n") == 1
    module._tell_too_long([Outcome()], settings, "dev.json")
    assert capsys.readouterr().err == ""


def test_files_of_answers_have_one_ending() -> None:
    names = ["dense", "a.json", "b.json.gz", "c.jsonl", "d", "d.json"]
    found = module._answers_files(Path("p"), names)
    told = ["dense.json", "a.json", "b.json", "c.json", "d.json", "d.json.json"]
    assert [path.name for path in found.values()] == told
