"""`eval --runs`: several checkpoints as one row, on files of answers, and `run --seeds` from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, Trained

PARAGRAPHS, OF_EACH = 8, 4


@pytest.fixture
def answers(place: Path) -> Path:
    """Questions, and four files of answers that get 0, 1, 2 and 3 of each paragraph's four questions wrong."""
    golds = {f"q{number}-{index}": "Rome" for number in range(PARAGRAPHS) for index in range(OF_EACH)}
    paragraphs = [
        {
            "context": f"Rome is number {number}.",
            "qas": [
                {"id": f"q{number}-{index}", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 0}]}
                for index in range(OF_EACH)
            ],
        }
        for number in range(PARAGRAPHS)
    ]
    data = {"version": "v2.0", "data": [{"title": "Rome", "paragraphs": paragraphs}]}
    (place / "data.json").write_text(json.dumps(data))
    for wrong in range(4):
        found = {key: "Paris" if int(key[-1]) < wrong else gold for key, gold in golds.items()}
        (place / f"run{wrong}.json").write_text(json.dumps(found))
    return place


def report(path: str = "eval.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def test_runs_are_one_row(answers: Path, run: Run, measured_here: None) -> None:
    words = ["eval", "--data", "data.json", "--runs", "low=run2.json,run3.json", "--runs", "high=run[01].json"]
    weak = "--allow-weak-baseline"  # by Student's t, two runs so far apart may be worth nothing
    rules = ["--baseline", "high", "--gate", "em>=base-51", "--gate", "em>=base-51@worst", weak]
    done = run(*words, *rules, "-o", "eval.json", "--show-flips", "1")
    assert done.code == 1, done.err
    found = report()
    low, high = found["rows"]
    assert [(row["name"], row["em"], row["sd"]["em"]) for row in (low, high)] == [
        ("low", 37.5, pytest.approx(17.678, abs=1e-3)),
        ("high", 87.5, pytest.approx(17.678, abs=1e-3)),
    ]
    assert (low["delta_em"], low["p_value"], high["baseline"]) == (-50.0, None, True)
    assert high["beats_nothing"] is False
    assert [run["name"] for run in low["runs"]] == ["run2.json", "run3.json"]
    assert {(run["runs"], run["sd"]) for run in low["runs"]} == {(None, None)}
    mean, worst = found["gates"]
    assert (mean["passed"], worst["passed"], worst["run"], worst["value"]) == (True, False, "run3.json", 25.0)
    assert "run" not in mean
    assert "37.50 ± 17.68" in done.out

    again = run("report", "eval.json", "-o", "again.json", weak)
    assert again.code == 1
    assert report("again.json")["gates"] == found["gates"]
    assert run("report", "eval.json", "--baseline", "low", "--gate", "em>=base", weak).code == 0


def test_a_projects_file_names_runs(answers: Path, run: Run, measured_here: None) -> None:
    Path("compresskit.yaml").write_text('{data: data.json, runs: ["both=run[12].json"], checkpoints: [run0.json]}')
    assert run("eval", "-o", "eval.json", "--baseline", "run0.json").code == 0
    single, both = report()["rows"]
    assert (single["name"], single["runs"], both["name"], both["em"]) == ("run0.json", None, "both", 62.5)
    assert [row["p_value"] < 1 for row in both["runs"]] == [True, True], "each is compared with the one checkpoint"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--runs", "a=run1.json"], "names one checkpoint"),
        (["--runs", "a"], "NAME=CKPT,CKPT"),
        (["--runs", "a=run1.json,./run1.json"], "./run1.json is named twice"),
        (["--runs", "a=run1.json,run2.json", "--runs", "a=run0.json,run3.json"], "other runs of the name a"),
        (["--runs", "a=run1.json,run2.json", "--baseline", "run1.json"], "one of the runs of a; name a"),
        (["--runs", "run0.json=run1.json,run2.json", "run0.json"], "another row is called run0.json"),
        (["--runs", "a=run1.json,run2.json", "--baseline", "a", "--gate", "em>=base"], "no row to judge"),
    ],
)
def test_runs_that_cannot_be_are_refused(words: list[str], told: str, answers: Path, refused) -> None:
    assert told in refused(2, "eval", "--data", "data.json", *words)


def test_a_glob_that_finds_nothing_is_bad_input(answers: Path, refused) -> None:
    assert "no checkpoint matches 'x*.json'" in refused(3, "eval", "--data", "data.json", "--runs", "a=x*.json")


def test_gates_are_proven_with_the_first_of_a_baselines_runs(answers: Path, run: Run, measured_here: None) -> None:
    words = ["eval", "--data", "data.json", "--runs", "a=run1.json,run2.json", "--baseline", "a", "--prove-gates"]
    done = run(*words, "--gate", "em>=base-5@worst")
    assert done.code == 0, done.err
    assert "run1.json as it was measured (EM 75.00)" in done.out


def test_a_lost_run_is_told(answers: Path, run: Run, measured_here: None) -> None:
    Path("run2.json").write_text("{}")
    done = run("eval", "--data", "data.json", "--runs", "a=run1.json,run2.json", "run0.json", "-o", "eval.json")
    assert done.code == 3
    assert "a could not be scored" in done.err
    single, lost = report()["rows"]
    assert lost["error"].startswith("of its 2 runs run2.json could not be scored: ")
    assert [single["em"], *(run["em"] for run in lost["runs"])] == [100.0, 75.0, None]


LAB = """options: {max-train-samples: 16, max-steps: 1, batch-size: 8, max-length: 128, stride: 32, device: cpu}
steps:
  - {name: dense, base: demo/bert, method: train, options: {train-data: TRAIN, lr: 1e-3}}
  - {name: int8, base: dense, method: quantize}
eval: {data: EVAL, device: cpu, baseline: dense, latency-questions: 0, allow-weak-baseline: true,
       gates: ["size<=2x@worst"], limit: 8}
"""


@pytest.mark.slow
def test_a_recipe_with_seeds(trained: Trained, place: Path, run: Run, measured_here: None) -> None:
    """Each seed makes other weights; what is there is kept, and one more seed makes one more run."""
    text = LAB.replace("TRAIN", str(trained.root / "demo-train.json")).replace("EVAL", str(trained.eval_data))
    (place / "lab.yaml").write_text(text)
    done = run("run", "lab.yaml", "--seeds", "2")
    assert done.code == 0, done.err
    dense, int8 = report("runs/lab/eval.json")["rows"]
    assert (dense["name"], int8["name"]) == ("dense", "int8")
    assert [run["name"] for run in int8["runs"]] == ["int8-seed42", "int8-seed43"]
    assert len({run["sha256"] for run in dense["runs"]}) == 2
    assert [run["manifest"]["steps"][0]["seed"] for run in int8["runs"]] == [42, 43]
    assert {run["p_value"] is None for run in int8["runs"]} == {False}, "each has the baseline of its own seed"

    plan = run("run", "lab.yaml", "--seeds", "3", "--plan")
    told = {line.split()[0]: line.split()[1] for line in plan.out.splitlines() if not line.startswith(" ")}
    assert told == {
        **{f"{name}-seed{seed}": "kept" for name in ("dense", "int8") for seed in (42, 43)},
        **{f"{name}-seed44": "run" for name in ("dense", "int8")},
        "eval": "6",
    }
