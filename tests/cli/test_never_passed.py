"""What `eval` never lets pass: gates that compared nothing, and comparisons that say nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compresskit.evaluate.row import Dataset, Gate, Report, Row
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("measured_here")


@pytest.fixture
def answers(place: Path) -> Path:
    """Files of answers to 24 questions in eight paragraphs: all right, two wrong, none given; data of no questions."""
    asked = {f"q{number}": "Rome" if number % 3 else "" for number in range(24)}
    paragraphs = []
    for first in range(0, 24, 3):
        golds = {key: [{"text": text, "answer_start": 0}] if text else [] for key, text in asked.items()}
        keys = [f"q{number}" for number in range(first, first + 3)]
        qas = [
            {"id": key, "question": "Where?", "answers": golds[key], "is_impossible": not golds[key]} for key in keys
        ]
        paragraphs.append({"context": f"Rome {first}.", "qas": qas})
    files = {
        "data": {"version": "v2.0", "data": [{"title": "Rome", "paragraphs": paragraphs}]},
        "empty": {"version": "v2.0", "data": []},
        "right": asked,
        "less": {**asked, "q1": "Paris", "q5": "Paris"},
        "none": dict.fromkeys(asked, ""),
    }
    for name, value in files.items():
        (place / f"{name}.json").write_text(json.dumps(value))
    return place


@pytest.mark.parametrize(
    ("code", "words", "line"),
    [
        (1, "less.json --baseline none.json --gate em>=base-1", "the baseline none.json does not beat answering"),
        (0, "less.json --baseline none.json --gate em>=base-1 --allow-weak-baseline", ""),
        (1, "none.json --baseline none.json less.json --gate delta_em>=-1", "does not beat answering nothing"),
        (1, "less.json --baseline right.json --gate em>=base-70", "answering nothing at all (33.33) would hold it too"),
        (0, "less.json --baseline right.json --gate baseline.em>=70", ""),
        (0, "right.json --baseline right.json --gate baseline.em>=70", ""),
        (1, "less.json --baseline right.json --gate baseline.em<=70", "fails for right.json (100, limit 70)"),
        (1, "less.json --baseline right.json --gate em>=base-9 --gate-ci", "is undecided for less.json"),
        (0, "less.json --baseline right.json --gate em>=base-9 --gate-ci --undecided pass", ""),
        (1, "less.json --baseline right.json --gate latency<=1.1x", "no row has latency_ms_p50; gate what these"),
        (2, "right.json --baseline right.json --gate em>=1", "has no row to judge but the baseline; name another"),
        (2, "less.json --gate rougeL>=3", "no row will have rougeL; ask for it with --metrics"),
        (2, "less.json --gate arc/acc>=3", "no row will have arc/acc; ask for it with --harness"),
        (2, "less.json --gate delta_em>=-1", "compares with a baseline; name it with --baseline"),
        (2, "less.json --gate baseline.em>=1", "compares with a baseline; name it with --baseline"),
        (2, "less.json --baseline right.json --gate baseline.em>=base", "compares the baseline with itself"),
        (2, "less.json --gate em>=1 --undecided pass", "--undecided pass has no effect without --gate-ci"),
        (2, "less.json --gate em>=1 --allow-weak-baseline", "--allow-weak-baseline has no effect without a gate"),
        (2, "less.json --gate em>=1 --undecided maybe", "--undecided maybe is not one of fail, pass"),
        (3, "less.json --data empty.json --gate em>=1", "empty.json: there are no questions in it; give data with"),
        (0, "--prove-gates --gate em>=50 --gate size<=3MB", ""),
        (1, "--prove-gates --gate em>=50 --gate em>=0", "em>=0 cannot fail"),
        (1, "--prove-gates less.json --baseline right.json --gate em>=base+1", "em>=base+1 cannot hold"),
        (2, "--prove-gates less.json", "--prove-gates proves gates, and there is none; give a --gate"),
        (3, "--prove-gates --data empty.json --gate em>=1", "empty.json: there are no questions in it"),
    ],
)
def test_eval(code: int, words: str, line: str, answers: Path, run: Run) -> None:
    data = [] if "--data" in words else ["--data", "data.json"]
    done = run("eval", *words.split(), *data)
    assert (done.code, line in done.err) == (code, True), done.err
    errors = [each for each in done.err.splitlines() if each.startswith("error: ")]
    assert len(errors) == (code != 0)


def test_the_json_says_it(answers: Path, run: Run) -> None:
    words = [
        "eval",
        "less.json",
        "none.json",
        "--data",
        "data.json",
        "--baseline",
        "right.json",
        "--gate",
        "em>=base-9",
    ]
    assert run(*words, "--gate-ci", "-o", "eval.json").code == 1
    report = json.loads((answers / "eval.json").read_text())
    assert report["dataset"]["nothing"] == {"em": pytest.approx(100 / 3), "f1": pytest.approx(100 / 3)}
    assert [row["beats_nothing"] for row in report["rows"]] == [True, True, False]
    gates = {gate["row"]: gate for gate in report["gates"]}
    assert (gates["less.json"]["verdict"], gates["none.json"]["verdict"]) == ("undecided", "fails")
    assert gates["less.json"]["questions_needed"] > 24
    assert (report["passed"], gates["none.json"]["questions_needed"]) == (False, None)
    # The verdicts are the same, held again; so is what passes by choice.
    assert run("report", "eval.json").code == 1
    assert run("report", "eval.json", "--gate", "em>=base-9", "--gate-ci", "--undecided", "pass").code == 1
    assert run("report", "eval.json", "--gate", "em>=base-90").code == 1


def test_a_report_of_no_questions(place: Path, run: Run) -> None:
    row = Row("half", "h", "encoder", "smp", False, em=77.5)
    report = Report("now", {}, {}, Dataset("d.json", "0", 0, 0), (row,), (Gate("em>=3", "half", True, 77.5, 3.0),))
    (place / "a.json").write_text(report.to_json())
    done = run("report", "a.json")
    assert (done.code, done.err) == (
        3,
        "error: d.json: no question was asked, so no gate can hold; give data with questions\n",
    )
    (place / "b.json").write_text(replace(report, rows=()).to_json())
    assert run("report", "b.json").code == 3


def test_proofs_are_printed_and_nothing_is_written(answers: Path, run: Run) -> None:
    words = ["eval", "--prove-gates", "--data", "data.json", "--baseline", "right.json", "--gate", "em>=base-10"]
    done = run(*words, "--format", "json", "--html", "a.html")
    assert (done.code, (answers / "a.html").exists()) == (0, False)
    assert "warning: --prove-gates prints its proofs, and writes none of the report's files" in done.err
    proof = json.loads(done.out)
    assert (proof["proven"], proof["baseline"]) == (True, "right.json as it was measured (EM 100.00)")
    sides = [proof["proofs"][0][side] for side in ("above", "below")]
    assert [(side["verdict"], round(side["value"], 2)) for side in sides] == [("holds", 91.67), ("fails", 87.5)]
    table = run(*words).out
    assert [word in table for word in ("Just above", "91.667", "87.5", "holds", "fails", "yes")] == [True] * 6


def test_gates_of_a_project_are_proven(answers: Path, run: Run) -> None:
    (answers / "compresskit.yaml").write_text(
        "eval:\n  checkpoints: [runs/none-yet]\n  baseline: runs/dense\n  data: data.json\n  gates: ['em>=base-9']\n"
    )
    done = run("eval", "--prove-gates")
    assert done.code == 0
    assert "the baseline is a made-up one (EM 79.17): there is no folder runs/dense here" in done.out
