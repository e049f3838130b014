"""Differences from a baseline against numpy and scipy, and the questions that flip."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from compresskit.data.examples import Answer, Example
from compresskit.evaluate.compare import compared, flips
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.row import Row
from compresskit.evaluate.stats import bootstrap_intervals

PARAGRAPH = [0, 0, 0, 1, 1, 2, 3, 3]
EM = {"base": [1, 1, 0, 0, 1, 0, 1, 0], "better": [1, 1, 1, 1, 1, 0, 0, 0], "same": [1, 1, 0, 0, 1, 0, 1, 0]}
F1 = {name: [min(1.0, value + 0.25 * (index % 3)) for index, value in enumerate(em)] for name, em in EM.items()}


def outcome(name: str) -> Outcome:
    return Outcome(question_em=EM[name], question_f1=F1[name], paragraph=PARAGRAPH)


def row(name: str, baseline: bool = False) -> Row:
    mean: dict[str, float] = {"em": 100 * float(np.mean(EM[name])), "f1": 100 * float(np.mean(F1[name]))}
    return Row(name, name, "encoder", "-", baseline, **mean)  # type: ignore[arg-type]


LOST = Row("lost", "lost", "-", "-", False, error="out of memory")


def intervals(*columns: Any) -> list[Any]:
    return list(bootstrap_intervals(np.array(columns, dtype=float).T, np.array(PARAGRAPH)))


def test_against_a_baseline() -> None:
    rows = [row("better"), row("base", baseline=True), LOST, row("same")]
    better, base, lost, same = compared(rows, [outcome("better"), outcome("base"), Outcome(), outcome("same")])
    assert (base.delta_em, base.delta_f1, base.p_value, base.delta_em_ci95) == (0.0, 0.0, None, None)
    assert base.em_ci95 == pytest.approx(intervals(EM["base"])[0])
    assert base.f1_ci95 == pytest.approx(intervals(F1["base"])[0])
    assert lost == LOST
    assert better.delta_em == pytest.approx(100 * (5 - 4) / 8)
    assert (better.questions_won, better.questions_lost) == (2, 1)
    assert better.p_value == pytest.approx(binomtest(2, 3).pvalue)
    difference = np.subtract(EM["better"], EM["base"]), np.subtract(F1["better"], F1["base"])
    assert better.delta_em_ci95 == pytest.approx(intervals(difference[0])[0])
    assert better.delta_f1_ci95 == pytest.approx(intervals(difference[1])[0])
    assert better.delta_f1 == pytest.approx(100 * float(np.mean(difference[1])))
    assert (same.delta_em, same.delta_em_ci95, same.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_without_a_baseline_there_are_intervals_all_the_same() -> None:
    for rows in ([row("better"), row("same")], [row("better"), row("same"), replace_baseline(LOST)]):
        outcomes = [outcome("better"), outcome("same"), Outcome()][: len(rows)]
        found = compared(rows, outcomes)
        assert found[0].em_ci95 == pytest.approx(intervals(EM["better"])[0])
        assert [each.delta_em for each in found] == [None] * len(rows)
    assert compared([LOST], [Outcome()]) == [LOST]


def replace_baseline(lost: Row) -> Row:
    return Row(lost.name, lost.path, "-", "-", True, error=lost.error)


def test_flips_are_spread_over_the_data_lost_ones_first() -> None:
    count = 40
    examples = [
        Example(
            f"q{i}",
            "t",
            f"What is {i}?",
            "A context.",
            (Answer("A", 0), Answer("A", 0)) if i % 2 else (),
            i % 2 == 0,
            i,
        )
        for i in range(count)
    ]
    base = Outcome(question_em=[1] * 20 + [0] * 20)
    own = Outcome(question_em=[0] * 20 + [1] * 5 + [0] * 15)
    answers, base_answers = ({f"q{i}": f"{name}{i}" for i in range(count)} for name in ("own", "base"))
    found = flips(own, base, answers, base_answers, examples, 4)
    assert [(flip.id, flip.won) for flip in found] == [
        *(("q0", False), ("q5", False), ("q10", False), ("q15", False)),
        *(("q20", True), ("q21", True), ("q22", True), ("q23", True)),
    ]
    assert (found[1].gold, found[0].gold) == (("A",), ())
    assert (found[1].answer, found[1].baseline, found[1].context) == ("own5", "base5", "A context.")
    assert flips(own, base, answers, base_answers, examples, 0) == ()
    assert flips(base, base, answers, answers, examples, 3) == ()
