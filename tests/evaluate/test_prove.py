"""Gates proven on made-up rows: every figure that can be gated, and gates that are none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import GateFailed, UsageError
from compresskit.evaluate import gate as module
from compresskit.evaluate import prove as proving
from compresskit.evaluate.delivery import GateOptions
from compresskit.evaluate.evaluate import Known, known
from compresskit.evaluate.figures import ASKED
from compresskit.evaluate.gate import parse_rules
from compresskit.evaluate.prove import OF_ANSWERS, Proven, prove
from compresskit.evaluate.row import FIGURES
from compresskit.evaluate.settings import EvalSettings

PARAGRAPHS, OF_EACH = 20, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of which every fourth has no answer, and a baseline's answers: one of five is wrong."""
    folder = tmp_path_factory.mktemp("proofs")
    paragraphs, answers = [], {}
    for number in range(PARAGRAPHS):
        asked = []
        for index in range(OF_EACH):
            key, golds = f"q{number}-{index}", [{"text": "Rome", "answer_start": 0}] if index else []
            asked.append({"id": key, "question": f"Where is {key}?", "answers": golds, "is_impossible": not golds})
            answers[key] = "Paris" if (number + index) % 5 == 0 else "Rome" if golds else ""
        paragraphs.append({"context": f"Rome is number {number}.", "qas": asked})
    data = {"version": "v2.0", "data": [{"title": "Rome", "paragraphs": paragraphs}]}
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "dense.json").write_text(json.dumps(answers))
    (folder / "none.json").write_text(json.dumps(dict.fromkeys(answers, "")))
    return folder


@pytest.fixture(autouse=True)
def _here(measured_here: None) -> None:
    """Files of answers are scored in this process."""


def proven(place: Path, rules: list[str], baseline: str | None = "dense.json", *, ci95: bool = False) -> Proven:
    made = parse_rules(rules, has_baseline=baseline is not None, ci95=ci95)
    ref = None if baseline is None else str(place / baseline)
    return prove(made, str(place / "data.json"), EvalSettings(), ref, GateOptions(gate_ci=ci95))


# Beside per cents of answers: what is a loss when it is more, and whole numbers.
NEEDED = {"questions_won": "<=3", "questions_lost": "<=3", "p_value": ">=0.05", "delta_em": ">=-1", "delta_f1": ">=-1"}


def test_the_figures_of_answers_can_be_gated() -> None:
    names = [*(name for name, figure in FIGURES.items() if figure.unfair is None), *ASKED, "arc/acc"]
    assert set(names) >= OF_ANSWERS


def test_all_gates_of_all_figures_are_proven(place: Path) -> None:
    names = [name for name, figure in FIGURES.items() if figure.unfair is None]
    rules = [f"{name}{NEEDED.get(name, '>=60')}" for name in (*names, *ASKED, "arc/acc")]
    rules += ["em>=base-1", "f1>0.9x", "em<=base+1", "baseline.em>=70", "size<=300MB", "latency<20ms", "bleu>=12.5"]
    found = proven(place, rules)
    assert [proof.problem for proof in found.proofs] == [None] * len(rules)
    found.require()
    for proof in found.proofs:
        assert proof.above.passed != proof.below.passed
        assert (proof.above.value or 0) > (proof.below.value or 0)
        is_most = "<" in proof.rule
        assert proof.below.passed is is_most, proof.rule
    assert found.baseline is not None
    assert found.baseline.endswith("dense.json as it was measured (EM 80.00)")


def test_the_two_files_differ_in_one_answer(place: Path) -> None:
    (proof,) = proven(place, ["em>=base-1"]).proofs
    assert (proof.above.value, proof.below.value, proof.above.limit) == (80.0, 78.75, 79.0)
    questions = PARAGRAPHS * OF_EACH
    (proof,) = proven(place, ["baseline.f1>=70"]).proofs
    assert proof.above.value is not None
    assert proof.below.value is not None
    assert proof.above.value - proof.below.value == pytest.approx(100 / questions)


@pytest.mark.parametrize("ci95", [False, True])
def test_gates_on_slices(place: Path, ci95: bool) -> None:
    rules = ["em[answerable=no]>=60", "f1[answerable=yes]>=base-4", "baseline.em[question=where]>=70"]
    for baseline in ("dense.json", "runs/not-yet"):
        proofs = proven(place, rules, baseline, ci95=ci95).proofs
        assert [(proof.problem, proof.above.passed) for proof in proofs] == [(None, True)] * 3
    with pytest.raises(UsageError, match="made-up rows have no windows"):
        proven(place, ["em[windows=1]>=60"])


def test_a_gate_on_windows_alone_takes_those_of_the_baseline(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*args: Any, **kwargs: Any) -> Known:
        given = known(*args, **kwargs)
        assert given.outcome is not None
        return replace(given, outcome=replace(given.outcome, windows=[1, 2] * (PARAGRAPHS * OF_EACH // 2)))

    monkeypatch.setattr(proving, "known", read)
    (proof,) = proven(place, ["em[windows=1]>=60"]).proofs
    assert (proof.problem, proof.above.passed) == (None, True)


def test_by_the_interval(place: Path) -> None:
    for proof in proven(place, ["em>=base-1", "em>=70", "size<=1MB"], ci95=True).proofs:
        assert (proof.problem, proof.above.passed != proof.below.passed) == (None, True)
    (proof,) = proven(place, ["em>=base-1"], ci95=True).proofs
    assert (proof.above.verdict, proof.below.verdict) == ("holds", "undecided")


@pytest.mark.parametrize(
    ("rule", "baseline", "problem"),
    [
        ("em>=0", None, "cannot fail"),
        ("em<=100", None, "cannot fail"),
        ("em>100", None, "cannot hold"),
        ("size>=0B", None, "cannot fail"),
        ("p_value>1", "dense.json", "cannot hold"),
        ("em>=base+21", "dense.json", "cannot hold"),
        ("em>=base-60", "dense.json", "cannot hold: answering nothing at all (25.00) would hold it too"),
        ("size<=0.5x", "dense.json", "cannot hold: the baseline has no deploy_bytes"),
        ("em>=base-1", "none.json", "does not beat answering nothing"),
        ("size<=0.5x", "none.json", "the baseline has no deploy_bytes"),
    ],
)
def test_what_is_no_gate(rule: str, baseline: str | None, problem: str, place: Path) -> None:
    found = proven(place, [rule], baseline)
    assert problem in (found.proofs[0].problem or "")
    with pytest.raises(GateFailed, match="cannot"):
        found.require()


def test_where_the_baseline_was_not_measured_one_is_made_up(place: Path) -> None:
    rules = [
        "em>=base-1",
        "f1>=0.95x",
        "size<=0.3x",
        "size<=base-900MB",
        "latency<=1.1x",
        "latency<=1.1x|+20ms",
        "memory<=0.9x",
    ]
    found = proven(place, rules, "runs/not-yet")
    found.require()
    assert found.baseline is not None
    assert found.baseline.startswith("a made-up one (EM 77.50): there is no folder ")


def test_a_gate_that_is_broken_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPERATORS", {**module.OPERATORS, ">=": lambda *_: True, "<=": lambda *_: False})
    problems = [proof.problem for proof in proven(place, ["em>=80", "size<=300MB", "latency<20ms"]).proofs]
    assert problems == ["cannot fail", "cannot hold", None]
