"""Files of answers as other programs write them, and what each lets `eval` find out."""

import json
from pathlib import Path
from typing import Any

import pytest

from compresskit.data.examples import Answer, Example
from compresskit.errors import InputError
from compresskit.evaluate.answer_files import null_odds_of, read_predictions
from compresskit.evaluate.score import score

EXAMPLES = [
    Example("a", "", "Who?", "Ada wrote it.", (Answer("Ada", 0),), False, 0),
    Example("b", "", "Why?", "Ada wrote it.", (), True, 0),
]
PREDICT = [
    {"id": "a", "text": "", "score": 4.0, "null_score": 5.5, "span_text": "Ada"},
    {"id": "b", "text": "", "score": 1.0, "null_score": 5.0, "span_text": "wrote"},
]
N_BEST = {
    "a": [
        {"text": "", "score": 5.5, "start_logit": 3.0, "end_logit": 2.5, "probability": 0.8},
        {"text": "Ada", "score": 4.0, "start_logit": 2.0, "end_logit": 2.0, "probability": 0.2},
    ],
    # As the older script has them, without their sum; here in a disorder.
    "b": [
        {"text": "wrote", "start_logit": 0.5, "end_logit": 0.5, "probability": 0.1},
        {"text": "", "start_logit": 2.5, "end_logit": 2.5, "probability": 0.9},
    ],
}
EVALUATE = [
    {"id": "a", "prediction_text": "Ada", "no_answer_probability": 0.1},
    {"id": "b", "prediction_text": "wrote", "no_answer_probability": 0.9},
]


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def lines(values: list[Any]) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


@pytest.mark.parametrize(
    ("value", "em", "best"),
    [
        (lines(PREDICT), 50.0, (100.0, 1.5)),
        (PREDICT, 50.0, (100.0, 1.5)),  # as a list
        (N_BEST, 50.0, (100.0, 1.5)),
        (json.dumps(N_BEST, indent=4), 50.0, (100.0, 1.5)),
        (EVALUATE, 50.0, (100.0, 0.1)),
        ([{"id": "a", "prediction_text": "Ada"}, {"id": "b", "prediction_text": "x"}], 50.0, (None, None)),
        ({"a": "Ada", "b": "x"}, 50.0, (None, None)),
    ],
)
def test_every_form_is_scored(value: Any, em: float, best: tuple[float | None, float | None], tmp_path: Path) -> None:
    result = score(EXAMPLES, read_predictions(written(tmp_path / "answers.json", value)))
    assert (result.em, (result.best_em, result.best_em_threshold)) == (em, best)


def test_one_line_of_predict(tmp_path: Path) -> None:
    found = read_predictions(written(tmp_path / "one.jsonl", lines(PREDICT[:1])))
    assert [(each.id, each.text, each.span_text) for each in found.values()] == [("a", "", "Ada")]


def test_the_null_threshold_decides_between_n_best(tmp_path: Path) -> None:
    path = written(tmp_path / "nbest_predictions.json", N_BEST)
    assert [each.text for each in read_predictions(path, 1.5).values()] == ["Ada", ""]
    assert [each.text for each in read_predictions(path, 9.0).values()] == ["Ada", "wrote"]


def test_null_odds_beside_answers_give_the_best_threshold(tmp_path: Path) -> None:
    path = written(tmp_path / "eval_predictions.json", {"a": "Ada", "b": "wrote"})
    assert null_odds_of(path) is None
    odds = written(tmp_path / "eval_null_odds.json", {"a": -2.0, "b": 3.5})
    assert null_odds_of(path) == odds
    result = score(EXAMPLES, read_predictions(path))
    assert (result.em, result.best_em, result.best_em_threshold) == (50.0, 100.0, -2.0)
    written(odds, {"a": -2.0})
    with pytest.raises(InputError, match=r"eval_null_odds.json: has nothing of 'b'"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("", ": cannot be read as JSON"),
        ("7", ": holds a whole number, not answers"),
        (["Rome"], ": entry 1 is a text, not an answer"),
        ({"a": 7}, ": the answer to 'a' is a whole number, not a text"),
        ({"a": []}, ": has no candidate for 'a'"),
        ({"a": ["Rome"]}, ": a candidate for 'a' is a text"),
        ({"a": [{"text": "Rome", "score": "high"}]}, ": a candidate for 'a' has a text as score, not a number"),
        ([{"id": "a"}], ": entry 1 has no prediction_text"),
        ([{"id": 3, "prediction_text": "x"}], ": entry 1 has a whole number as id, not a text"),
        ([EVALUATE[0], EVALUATE[0]], ": has two answers to 'a'"),
        (lines(PREDICT) + "{", ", line 3: cannot be read as JSON"),
    ],
)
def test_what_is_none_of_them(value: Any, what: str, tmp_path: Path) -> None:
    path = written(tmp_path / "answers.json", value)
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}{what}")
    assert ";" in str(caught.value), "no mend"
