"""Readers answer as the command line does."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

import compresskit as ck
from compresskit import console
from compresskit.cli.app import main
from tests.api.conftest import Made

CONTEXT = "Anna lives in Rome. She is a baker."
ASKED = ("Where does Anna live?", CONTEXT)


def test_an_answer_is_that_of_the_command(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-q", "predict", str(made.half.path), "-q", ASKED[0], "-c", CONTEXT, "--device", "cpu"]
    assert main([*words, "--n-best", "3", "--null-threshold", "1e9"]) == 0
    console.configure()
    printed = json.loads(capsys.readouterr().out)
    answer = ck.predict(made.half, *ASKED, device="cpu", n_best=3, null_threshold=1e9)
    told = asdict(answer)
    assert told.pop("id") == "0"
    assert list(told.pop("n_best")) == printed.pop("n_best")
    assert told == printed
    assert answer.is_answered
    assert CONTEXT[answer.start : answer.end] == answer.text == str(answer) == answer.n_best[0].text


def test_many_are_answered_as_each_alone(made: Made) -> None:
    reader = ck.load(made.dense.path, device="cpu")
    asked = [ASKED, ("Who is a baker?", CONTEXT), ("Who sings?", "Ben sings. " * 60)]
    many = reader.predict_many([*asked[:2], {"id": "long", "question": asked[2][0], "context": asked[2][1]}])
    assert [each.id for each in many] == ["0", "1", "long"]
    for one, other in zip(many, asked, strict=True):
        alone = reader.predict(*other)
        assert one.text == alone.text
        assert one.score == pytest.approx(alone.score, abs=1e-4)
        assert one.n_best[:1] == () or len(one.n_best) == 1


def test_a_reader_has_the_model(made: Made) -> None:
    reader = ck.load(made.half, device="cpu")
    assert type(reader.model).__name__ == "BertForQuestionAnswering"
    assert not reader.model.training
    assert reader.tokenizer("who")["input_ids"]
    assert repr(reader) == f"Reader('{made.half.path}': mask, encoder, on cpu)"


def test_what_cannot_be_asked(made: Made) -> None:
    reader = ck.load(made.half, device="cpu")
    with pytest.raises(ck.InputError, match="the context is empty"):
        reader.predict("Who?", " ")
    with pytest.raises(ck.UsageError, match="question 1 is not a pair"):
        reader.predict_many([ASKED, "Who?"])  # type: ignore[list-item]
    with pytest.raises(ck.UsageError, match="question 0 has no context"):
        reader.predict_many([{"question": "Who?"}])
    with pytest.raises(ck.UsageError, match="the question of question 0 is NoneType"):
        reader.predict(None, "x")  # type: ignore[arg-type]
    with pytest.raises(ck.UsageError, match="--beams 2 has no effect"):
        reader.predict(*ASKED, beams=2)
    with pytest.raises(ck.KeywordError, match="did you mean n_best"):
        reader.predict(*ASKED, nbest=2)  # type: ignore[call-arg]
    with pytest.raises(ck.InputError, match="no trained question-answering head"):
        ck.load("demo/bert", device="cpu")
    with pytest.raises(ck.UsageError, match="device 'gpu' is not one of"):
        ck.load(made.half, device="gpu")  # type: ignore[arg-type]
