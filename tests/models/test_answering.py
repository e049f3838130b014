"""How likely answers are."""

import math

import pytest

from compresskit.models.answering import Candidate, Prediction


def test_probabilities_are_the_softmax_over_the_candidates_and_no_answer() -> None:
    found = Prediction("q", "a", 2.0, 1.0, "a", (Candidate("a", 2.0), Candidate("b", 0.0)))
    total = math.exp(2) + math.exp(1) + 1
    chances, null = found.probabilities
    assert chances == pytest.approx([math.exp(2) / total, 1 / total])
    assert null == pytest.approx(math.e / total)


def test_probabilities_of_great_scores_and_of_none() -> None:
    assert Prediction("q", "a", 1e4, -1e4, "a", (Candidate("a", 1e4),)).probabilities == ([1.0], 0.0)
    assert Prediction("q", "", None, 3.0, "").probabilities == ([], 1.0)
    assert Prediction("q", "a", 0.0, None, "a", (Candidate("a", 0.0),)).probabilities == ([1.0], None)
