"""Language models on the command line: examples before the questions, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compresskit.data.load import load as load_data
from compresskit.data.shots import drawn
from compresskit.evaluate.predict import answer_one
from compresskit.models.answering import AnswerOptions
from compresskit.models.registry import load
from tests.cli.conftest import Run, Trained
from tests.contract import makers

ROOM = ["--max-length", "240", "--stride", "8"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.causal(tmp_path_factory.mktemp("causal") / "model", positions=512)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.data(tmp_path_factory.mktemp("data") / "train.json")


@pytest.fixture(scope="module")
def unanswered(data: Path) -> Path:
    """The same questions, none of which has an answer."""
    document = json.loads(data.read_text())
    for paragraph in document["data"][0]["paragraphs"]:
        for question in paragraph["qas"]:
            question |= {"answers": [], "is_impossible": True}
    path = data.with_name("unanswered.json")
    path.write_text(json.dumps(document))
    return path


def test_predict_shows_examples_before_the_question(causal: Path, data: Path, run: Run) -> None:
    """Those that the seed draws, as `eval` has them."""
    question, context = "what is rome ?", "rome is the capital of italy ."
    words = ["predict", causal, "-q", question, "-c", context, "--device", "cpu", *ROOM]
    loaded = load(str(causal), device="cpu")
    scores = []
    for seed in (0, 1):
        found = json.loads(run(*words, "--shots", "2", "--shots-data", data, "--seed", str(seed)).out)
        shots = tuple(drawn(load_data(str(data), "train"), 2, seed))
        options = AnswerOptions(240, 8, shots=shots)
        expected = answer_one(loaded, question, context, options)
        assert (found["text"], found["score"]) == (expected.text, pytest.approx(expected.score))
        scores.append(found["score"])
    scores.append(json.loads(run(*words).out)["score"])
    assert len(set(scores)) == 3


@pytest.mark.parametrize("verb", ["eval", "predict"])
@pytest.mark.parametrize(
    ("code", "words", "told"),
    [
        (2, "--shots 2", "--shots 2 needs --shots-data"),
        (2, "--shots-data DATA", "--shots-data DATA has no effect without --shots"),
        (2, "--seed 3", "--seed 3 has no effect without "),
        (2, "--shots 9 --shots-data DATA", "--shots 9 is not "),
        (3, "--shots 2 --shots-data NONE", "NONE has no question with an answer to show; give other --shots-data"),
        (3, "--shots 2 --shots-data nowhere.json", "nowhere.json: no such file"),
    ],
)
def test_examples_that_cannot_be_shown(
    code: int, words: str, told: str, verb: str, causal: Path, data: Path, unanswered: Path, refused
) -> None:
    own = ["--data", str(data)] if verb == "eval" else ["-q", "Who?", "-c", "Rome."]
    known = {"DATA": str(data), "NONE": str(unanswered)}
    line = refused(code, verb, causal, *own, *(known.get(word, word) for word in words.split()))
    assert line.replace(str(data), "DATA").replace(str(unanswered), "NONE").startswith(told)


def test_examples_that_do_not_fit(causal: Path, data: Path, refused, run: Run) -> None:
    """Some are shown with a warning that counts them; where none fits there is nothing to show."""
    words = ["predict", causal, "-q", "Who?", "-c", "rome", "--device", "cpu", "--shots", "3", "--shots-data", data]
    line = refused(2, *words, "--max-length", "96", "--stride", "8")
    assert line.startswith("0 of 3 examples fit before a question in --max-length 96 with --stride 8; with ")
    length = line.split()[-3]
    assert run(*words, "--max-length", length, "--stride", "8").err == ""
    shorter = run(*words, "--max-length", str(int(length) - 1), "--stride", "8")
    assert shorter.code == 0
    assert shorter.err.startswith("warning: 2 of 3 examples fit")


def test_examples_before_a_reader_of_spans(trained: Trained, data: Path, refused) -> None:
    words = ["predict", trained.dense, "-q", "Who?", "-c", "Rome.", "--shots", "2", "--shots-data", data]
    assert refused(2, *words).startswith("--shots 2 has no effect with")
