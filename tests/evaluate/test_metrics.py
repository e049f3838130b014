"""Overlap with the gold answers: the libraries' own figures on the same texts."""

import importlib.util

import pytest

from compresskit.data.examples import Answer, Example
from compresskit.errors import MissingError, UsageError
from compresskit.evaluate.figures import ASKED
from compresskit.evaluate.metrics import METRICS, Metrics, check_metrics
from compresskit.models.answering import Prediction

GOLDS = [("the old town of Rome", "Rome"), ("Paris in the spring",), (), ("a b c d e",)]
ANSWERS = ["old town of Rome", "", "Lima", "a b c d f"]


def run(names: list[str]) -> dict[str, float | None]:
    metrics = Metrics(names)
    for index, (golds, answer) in enumerate(zip(GOLDS, ANSWERS, strict=True)):
        answers = tuple(Answer(gold, 0) for gold in golds)
        example = Example(f"q{index}", "t", "?", "c", answers, not answers, index)
        metrics.add(example, Prediction(example.id, answer, None, None, answer))
    return metrics.result()


def test_bleu_is_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses = ["old town of Rome", "", "a b c d f"]
    references = [["the old town of Rome", "Paris in the spring", "a b c d e"], ["Rome", None, None]]
    expected = sacrebleu.metrics.BLEU(effective_order=True).corpus_score(hypotheses, references).score
    assert run(["bleu"]) == {"bleu": pytest.approx(expected)}
    assert 0 < expected < 100


def test_rouge_by_hand() -> None:
    pytest.importorskip("rouge_score")
    # F1 of unigrams, bigrams and the longest common subsequence: against the better gold answer, then the mean.
    assert run(["rouge"]) == {
        "rouge1": pytest.approx(100 * (2 * 1 * 0.8 / 1.8 + 0 + 0.8) / 3),
        "rouge2": pytest.approx(100 * (2 * 1 * 0.75 / 1.75 + 0 + 0.75) / 3),
        "rougeL": pytest.approx(100 * (2 * 1 * 0.8 / 1.8 + 0 + 0.8) / 3),
    }


def test_names() -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    assert set(run([*METRICS, "ppl"])) == set(ASKED)
    assert run(["ppl"]) == {"ppl": None}  # answers have none
    assert run([]) == {}
    assert Metrics(["bleu", "ppl"]).result() == {"bleu": None, "ppl": None}  # no question, no figure


def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--metrics meteor "):
        check_metrics(["meteor"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install 'compresskit\[metrics\]'"):
        check_metrics(["bleu"])
