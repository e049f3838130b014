"""Asking a loaded checkpoint, with a family that looks answers up."""

from pathlib import Path

import pytest

from compresskit.errors import InputError
from compresskit.evaluate import predict
from compresskit.models.answering import AnswerOptions
from tests.evaluate.look_up import LookUp, examples, loaded


def test_predictions_keep_the_order(tmp_path: Path) -> None:
    family = LookUp()
    found = list(predict.predictions(loaded(tmp_path, family), examples(7), AnswerOptions(batch_size=3)))
    assert [prediction.id for prediction in found] == [f"q{index}" for index in range(7)]


def test_one_question(tmp_path: Path) -> None:
    family = LookUp()
    found = predict.answer_one(loaded(tmp_path, family), "where?", "Rome.", AnswerOptions(batch_size=8))
    assert found.text == ""
    assert family.asked == [("question", 1)]
    for question, context in (("", "Rome."), ("where?", " \n")):
        with pytest.raises(InputError, match="is empty"):
            predict.answer_one(loaded(tmp_path, family), question, context, AnswerOptions())
