"""A blind set: scored once for each checkpoint, recorded, told beside the row, and kept out of everything else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compresskit.cli.app import main
from compresskit.errors import InputError, UsageError
from compresskit.evaluate import blind as module
from compresskit.evaluate.blind import BlindSet
from compresskit.evaluate.cache import Cache
from compresskit.evaluate.combine import combined
from compresskit.evaluate.evaluate import evaluate
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.evaluate.gate import gated, parse, parse_rules
from compresskit.evaluate.look import Blind, ordinal, told_blind
from compresskit.evaluate.prove import prove
from compresskit.evaluate.report import render
from compresskit.evaluate.report.html import render as page
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.training.arguments import TrainingOptions
from tests import tiny

SMALL = ["--max-length", "48", "--stride", "8", "--latency-questions", "0", "--device", "cpu"]


def squad(path: Path, first: int, count: int) -> Path:
    """A file of questions about so many paragraphs; every third has no answer."""
    paragraphs = []
    for number in range(first, first + count):
        city, name = tiny.CITIES[number % 4], f"{'abcdefgh'[number // 8]} {'abcdefgh'[number % 8]}"
        golds = [{"text": city, "answer_start": 0}] if number % 3 else []
        question = {"id": f"q{number}", "question": f"what is the capital of {name} ?", "answers": golds}
        context = f"{city} is the capital of {name} ."
        paragraphs.append({"context": context, "qas": [{**question, "is_impossible": not golds}]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with data that are looked at, held-out data, and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSKIT_CACHE", str(tmp_path / "cache"))
    squad(tmp_path / "dev.json", 0, 8)
    squad(tmp_path / "held.json", 20, 8)
    tiny.checkpoint(tmp_path / "dense")
    return tmp_path


Evaluated = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluated(place: Path, measured_here: None, capsys: pytest.CaptureFixture[str]) -> Evaluated:
    """Evaluate; the JSON, and what was told."""

    def command(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["eval", "--data", "dev.json", *SMALL, "-o", "eval.json", *words]) == code
        shown = capsys.readouterr()
        return {**json.loads((place / "eval.json").read_text()), "out": " ".join(shown.out.split()), "err": shown.err}

    return command


def test_once_for_each_checkpoint(place: Path, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluated("dense", "--blind", "held.json", "--html", "eval.html")
    (row,) = first["rows"]
    alone = evaluated("dense", "--no-cache")
    assert {key: row[key] for key in ("em", "f1", "sha256")} == {
        key: alone["rows"][0][key] for key in ("em", "f1", "sha256")
    }
    assert (row["blind"]["look"], row["blind"]["recorded"]) == (1, False)
    assert first["dataset"]["blind"]["nothing"]["em"] == pytest.approx(100 * 3 / 8)
    assert "dense on the blind set: EM " in first["out"]
    assert "1st look; scored 20" in first["out"]
    assert "1st look" in (place / "eval.html").read_text()
    record = (place / "held.json.blind.jsonl").read_bytes()

    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("it was scored again"))
    again = evaluated("dense", "--blind", "held.json", "--no-cache", "--max-answer-length", "3")
    assert again["rows"][0]["blind"] == {**row["blind"], "recorded": True}
    assert f"recorded {row['blind']['scored']}, not run again" in again["out"]
    assert "dense was scored on the blind set with max answer length 30 instead of 3" in again["out"]
    assert (place / "held.json.blind.jsonl").read_bytes() == record
    shutil.copytree("dense", "copy")
    assert evaluated("copy", "--blind", "held.json")["rows"][0]["blind"]["look"] == 1, "it is the same checkpoint"


def test_a_changed_checkpoint_is_another_look(place: Path, evaluated: Evaluated) -> None:
    evaluated("dense", "--blind", "held.json")
    tiny.checkpoint(place / "dense", seed=1)
    second = evaluated("dense", "--blind", "held.json")
    assert second["rows"][0]["blind"]["look"] == 2
    assert second["dataset"]["blind"]["checkpoints"] == 2
    assert "2nd look" in second["out"]
    assert "less blind each time" in second["out"]


def test_the_figures_are_those_of_eval_and_nothing_goes_to_the_cache(place: Path, evaluated: Evaluated) -> None:
    blind = evaluated("dense", "--blind", "held.json", "--limit", "3", "--metrics", "bleu")["rows"][0]["blind"]
    assert [entry.data() for entry in Cache().entries()] == ["dev.json"]
    assert evaluated("dense", "--data", "held.json", code=2)["err"].startswith("error: --data held.json is a blind set")
    shutil.copy("held.json", "copy.json")
    row = evaluated("dense", "--data", "copy.json")["rows"][0]
    assert (blind["em"], blind["f1"]) == (row["em"], row["f1"]), "of all questions, whatever --limit says"


def test_each_run_of_a_mean_is_scored(place: Path, evaluated: Evaluated) -> None:
    for seed in range(3):
        tiny.checkpoint(place / f"small-seed{seed}", seed=seed)
    words = ["--runs", "small=small-seed0,small-seed1", "--blind", "held.json", "--baseline", "small-seed2"]
    words += ["--gate", "blind.em>=0", "--gate", "blind.em>=0@worst", "--html", "eval.html", "--format", "csv"]
    found = evaluated(*words)
    (mean,) = [row for row in found["rows"] if row["runs"]]
    blinds = [run["blind"] for run in mean["runs"]]
    assert mean["blind"]["em"] == pytest.approx((blinds[0]["em"] + blinds[1]["em"]) / 2)
    assert mean["sd"]["blind.f1"] == pytest.approx(abs(blinds[0]["f1"] - blinds[1]["f1"]) / 2**0.5)
    assert [blind["look"] for blind in blinds] == [1, 1]
    assert found["dataset"]["blind"]["checkpoints"] == 3
    assert "small-seed1 on the blind set: " in (place / "eval.html").read_text()
    lines = [json.loads(line) for line in (place / "held.json.blind.jsonl").read_text().splitlines()]
    together = sorted(run["sha256"] for run in mean["runs"])
    assert sorted(line["runs"] for line in lines) == [[], together, together]


def test_a_mean_without_one_of_its_runs_is_lost(
    place: Path, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(checkpoints: Any, *words: Any, **more: Any) -> Report:
        report = evaluate(checkpoints, *words, **more)
        is_lost = checkpoints == ["small-seed1"]
        return replace(report, rows=(replace(report.rows[0], error="odd", error_code=5),)) if is_lost else report

    monkeypatch.setattr(module, "evaluate", broken)
    for seed in range(2):
        tiny.checkpoint(place / f"small-seed{seed}", seed=seed)
    found = evaluated("--runs", "small=small-seed0,small-seed1", "--blind", "held.json", code=5)
    assert found["rows"][0]["blind"] is None
    assert "small-seed1: on the blind set: odd" in found["err"]


def test_what_is_shared_is_told(place: Path, evaluated: Evaluated) -> None:
    squad(place / "held.json", 6, 8)
    found = evaluated("dense", "--blind", "held.json")
    assert found["dataset"]["blind"]["shared"] == {"questions": 2, "paragraphs": 2}
    assert "of the blind set 2 questions and 2 paragraphs stand in dev.json too" in found["out"]


def test_a_checkpoint_that_cannot_be_scored_on_it_is_not_recorded(
    place: Path, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: Any, **more: Any) -> Report:
        report = evaluate(*words, **more)
        return replace(report, rows=(replace(report.rows[0], error="out of memory", error_code=5),))

    monkeypatch.setattr(module, "evaluate", broken)
    found = evaluated("dense", "--blind", "held.json", code=5)
    assert found["rows"][0]["blind"] is None
    assert found["rows"][0]["em"] is not None
    assert found["err"].endswith("error: dense: on the blind set: out of memory\n")
    assert (place / "held.json.blind.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("--blind dev.json", 2, "--blind dev.json is the same as --data dev.json"),
        ("--blind demo", 2, "its record needs a place; name one with --blind-record"),
        ("--blind nowhere.json", 2, "--blind nowhere.json is no file here"),
        ("--blind held.json --blind-record dense/looks", 2, "lies in dense, which is read"),
        ("--blind held.json --blind-record none/looks", 2, "make it first"),
        ("--null-threshold auto --tune-data seen.json", 2, "--tune-data seen.json is a blind set"),
        ("--blind-record looks", 2, "--blind-record looks has no effect without --blind"),
        ("--gate blind.em>=3", 2, "no row will have blind.em; ask for it with --blind"),
        ("--blind held.json --gate-ci --gate blind.em>=3", 2, "blind.em has no interval"),
        ("--blind held.json -o held.json.blind.jsonl", 2, "is held.json.blind.jsonl, which is read"),
    ],
)
def test_what_is_refused_before_anything_is_measured(
    words: str,
    code: int,
    told: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("compresskit.evaluate.evaluate.measure_in_process", lambda *_: pytest.fail("measured"))
    if "-o" in words:
        (place / "held.json.blind.jsonl").touch()
    (place / "seen.json.blind.jsonl").touch()
    squad(place / "seen.json", 40, 4)
    assert main(["eval", "dense", "--data", "dev.json", *SMALL, *words.split()]) == code
    assert told in capsys.readouterr().err


def test_a_damaged_record_ends_the_call_first(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compresskit.evaluate.verdict.evaluate", lambda *_, **__: pytest.fail("measured"))
    (place / "held.json.blind.jsonl").write_text("{}\n")
    assert main(["eval", "dense", "--data", "dev.json", "--blind", "held.json", *SMALL]) == 3
    assert "restore the record" in capsys.readouterr().err


def test_one_process_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="is scored by one process"):
        BlindSet.read("held.json", None, "dev.json", EvalSettings())


def test_nothing_else_looks_at_it(place: Path) -> None:
    (place / "held.json.blind.jsonl").touch()
    with pytest.raises(UsageError, match=r"--shots-data held.json is a blind set"):
        evaluate(["dense"], "dev.json", EvalSettings(shots=1, shots_data="held.json"))
    with pytest.raises(UsageError, match=r"--eval-data held.json is a blind set"):
        EvaluatorOptions("held.json").evaluator(TrainingOptions("demo/bert"))


BASE = Row("dense", "p", "encoder", "train", True, em=80.0, blind=Blind(70.0, 75.0, "then", 1), sha256="a" * 64)
OTHER = replace(BASE, name="small", baseline=False, blind=Blind(68.5, 74.0, "then", 3, recorded=True))
FACTS: dict[str, Any] = {
    "path": "held.json",
    "sha256": "f" * 64,
    "questions": 100,
    "unanswerable": 50,
    "nothing": {"em": 50.0, "f1": 50.0},
    "shared": {"questions": 0, "paragraphs": 0},
    "record": "held.json.blind.jsonl",
    "checkpoints": 4,
}
REPORT = Report("now", {}, {}, Dataset("d", "0", 10, 5, blind=FACTS), (BASE, OTHER))


@pytest.mark.parametrize(
    ("rule", "passed", "limit"),
    [
        ("blind.em>=base-1.5", True, 68.5),
        ("blind.em>=base-1", False, 69.0),
        ("blind.f1>=0.9x", True, 67.5),
        ("blind.f1>=74.5", False, 74.5),
        ("blind.em>=base-25", False, 45.0),  # answering nothing has 50 there
    ],
)
def test_gates_on_the_blind_figures(rule: str, passed: bool, limit: float) -> None:
    (gate,) = gated(REPORT, [parse(rule)]).gates
    assert (gate.passed, gate.limit, gate.value) == (passed, limit, OTHER.value(parse(rule).metric))


def test_a_row_that_was_not_scored_on_it_fails_its_gates() -> None:
    report = replace(REPORT, rows=(BASE, replace(OTHER, blind=None)))
    (gate,) = gated(report, [parse("blind.em>=10")]).gates
    assert (gate.passed, gate.value) == (False, None)
    assert "ask for it with --blind" in (gate.reason or "")


def test_every_format_tells_them() -> None:
    again = Report.from_json(REPORT.to_json())
    assert again == REPORT
    for text in (str(render(REPORT, "markdown")), page(REPORT)):
        assert "Blind" in text
        assert "68.50" in text
        assert "small on the blind set: EM 68.50, F1 74.00; 3rd look; recorded then, not run again" in text
    head, first, _ = str(render(REPORT, "csv")).splitlines()
    line = dict(zip(head.split(","), first.split(","), strict=True))
    assert (line["blind.em"], line["blind.f1"]) == ("70.0", "75.0")


def test_overlap_with_training_data_is_told() -> None:
    trained = replace(
        OTHER, blind=replace(OTHER.blind or Blind(0, 0, "", 1), overlap={"questions": 2, "paragraphs": 1})
    )
    lines = told_blind(replace(REPORT, rows=(BASE, trained)))
    assert "of the blind set 2 questions and 1 paragraph stand in the training data of small" in lines


def test_saved_reports_of_one_blind_set_stand_together() -> None:
    later = replace(REPORT, dataset=replace(REPORT.dataset, blind={**FACTS, "checkpoints": 7}))
    plain = replace(REPORT, dataset=replace(REPORT.dataset, blind=None), rows=(replace(OTHER, name="x", blind=None),))
    whole = combined([REPORT, later, plain], ["a.json", "b.json", "c.json"])
    assert whole.dataset.blind is not None
    assert whole.dataset.blind["checkpoints"] == 7
    other = replace(REPORT, dataset=replace(REPORT.dataset, blind={**FACTS, "sha256": "9" * 64}))
    with pytest.raises(InputError, match="has figures on another blind set than"):
        combined([REPORT, other], ["a.json", "b.json"])


def test_a_row_scored_once_and_told_from_the_record_since_is_one() -> None:
    scored = replace(OTHER, blind=replace(OTHER.blind or Blind(0, 0, "", 1), recorded=False))
    reports = [REPORT, replace(REPORT, rows=(BASE, scored))]
    for order in (reports, reports[::-1]):
        assert combined(order, ["a.json", "b.json"]).rows == (BASE, scored)
    mean = replace(scored, name="mean", runs=(scored, OTHER))
    again = replace(mean, runs=(OTHER, OTHER))
    reports = [replace(REPORT, rows=(BASE, each)) for each in (again, mean)]
    assert combined(reports, ["a.json", "b.json"]).rows == (BASE, mean)


def test_blind_gates_are_proven_without_a_look(place: Path, measured_here: None) -> None:
    rules = parse_rules(["blind.em>=base-1", "blind.f1>=60"], has_baseline=True)
    squad(place / "dev.json", 0, 40)
    answers = {f"q{number}": tiny.CITIES[number % 4] if number % 3 else "" for number in range(40)}
    (place / "answers.json").write_text(json.dumps(answers))
    for baseline in ("answers.json", "not-yet"):
        found = prove(rules, "dev.json", EvalSettings(), baseline)
        assert [proof.problem for proof in found.proofs] == [None, None]


def test_gates_are_not_proven_by_answers_to_a_blind_set(place: Path) -> None:
    """The baseline's EM is told, so that would be a look."""
    (place / "answers.json").write_text("{}")
    (place / "held.json.blind.jsonl").touch()
    with pytest.raises(UsageError, match=r"^--data held.json is a blind set"):
        prove(parse_rules(["em>=base-1"], has_baseline=True), "held.json", EvalSettings(), "answers.json")


def test_a_recipe_passes_it_on(place: Path, measured_here: None, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["checkpoints: [dense]", "data: dev.json", "blind: held.json", "max-length: 48", "stride: 8", "device: cpu"]
    (place / "lab.yaml").write_text(
        "\n  ".join(["eval:", *lines, "gates: ['baseline.blind.em>=0']", "baseline: dense\n"])
    )
    capsys.readouterr()
    assert main(["run", "lab.yaml", "-o", "made", "--set", "eval.blind=null"]) == 3
    assert "lab.yaml:4: --gate 'baseline.blind.em>=0': no row will have blind.em" in capsys.readouterr().err
    assert main(["run", "lab.yaml", "-o", "made"]) == 0
    (row,) = json.loads((place / "made" / "eval.json").read_text())["rows"]
    assert row["blind"]["look"] == 1
    assert len((place / "held.json.blind.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("lines", "code", "told"),
    [
        ("blind: dev.json", 2, "--blind dev.json is the same as --data dev.json"),
        ("blind: held.json", 3, "held.json.blind.jsonl: line 1 is not as it was written"),
        ("data: held.json", 2, "--data held.json is a blind set"),
        ("null-threshold: auto\n  tune-data: held.json", 2, "--tune-data held.json is a blind set"),
    ],
)
def test_what_is_wrong_with_the_data_ends_a_recipe_before_its_first_step(
    lines: str, code: int, told: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "held.json.blind.jsonl").write_text("{}\n")
    data = "" if lines.startswith("data") else "  data: dev.json\n"
    steps = "steps:\n  - {name: small, base: dense, method: quantize}\n"
    (place / "lab.yaml").write_text(f"{steps}eval:\n{data}  {lines}\n")
    capsys.readouterr()
    assert main(["run", "lab.yaml", "-o", "made"]) == code
    assert told in capsys.readouterr().err
    assert not list((place / "made").iterdir())


def test_no_later_step_of_a_recipe_scores_on_its_blind_set(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["{name: small, base: dense, method: quantize}"]
    steps += ["{name: more, base: dense, method: train, options: {train-data: demo, eval-data: held.json}}"]
    lines = "".join(f"  - {step}\n" for step in steps)
    (place / "lab.yaml").write_text(f"steps:\n{lines}eval: {{data: dev.json, blind: held.json}}\n")
    capsys.readouterr()
    assert main(["run", "lab.yaml", "-o", "made"]) == 2
    assert "step more: --eval-data held.json is a blind set" in capsys.readouterr().err
    assert not list((place / "made").iterdir())


@pytest.mark.parametrize(
    ("number", "told"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (22, "22nd")]
)
def test_ordinals(number: int, told: str) -> None:
    assert ordinal(number) == told
