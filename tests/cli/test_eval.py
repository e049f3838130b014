"""What becomes of scores: gates, checkpoints that could not be measured, and what `eval` refuses at once."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from compresskit import console
from compresskit.data.examples import ExampleFiles
from compresskit.errors import MissingError
from compresskit.evaluate import process, worker
from compresskit.evaluate.evaluate import Extras
from compresskit.evaluate.measurement import Measurement, Outcome
from compresskit.evaluate.row import Dataset, Gate, Report, Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.turns import Plan
from tests.cli.conftest import Run, Trained, words_of


def unmeasured(*_: Any, **__: Any) -> Report:
    row = Row("dense", "dense", "-", "-", False, error="its process was ended", error_code=5)
    return Report(created="now", versions={}, device={}, dataset=Dataset("d", "0", 1, 0), rows=(row,))


def test_a_result_that_cannot_be_scored_stays(trained: Trained, place: Path, run: Run, monkeypatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MissingError("no room")

    monkeypatch.setattr("compresskit.evaluate.evaluate.evaluate", fails)
    done = run(*words_of("train", trained.dense, trained), "--eval-data", trained.eval_data)
    assert done.code == 4
    assert done.err.splitlines()[-1] == "error: out is ready, but could not be scored: no room"
    assert [path.name for path in place.iterdir()] == ["out"]
    assert "em" not in json.loads((place / "out" / "compresskit.json").read_text())["steps"][-1]["metrics"]


def test_a_checkpoint_that_could_not_be_measured(trained: Trained, run: Run, monkeypatch) -> None:
    """The table comes all the same, and the exit code tells."""
    monkeypatch.setattr("compresskit.evaluate.verdict.evaluate", unmeasured)
    done = run("eval", trained.dense, "--data", trained.eval_data)
    assert done.code == 5
    assert (done.out + done.err).count("its process was ended") == 1  # each fault is told once
    assert done.err == "error: dense: its process was ended\n"


@pytest.mark.parametrize(("rule", "code"), [("em>=base-3", 0), ("em>=base-2", 1), ("memory<=1GB", 1)])
def test_a_gate_that_fails(rule: str, code: int, trained: Trained, run: Run, place: Path, monkeypatch) -> None:
    """Exit code 1, one line that names rule, row, figure and limit; the JSON is written all the same."""
    rows = (Row("dense", "d", "encoder", "train", True, em=80.0), Row("half", "h", "encoder", "smp", False, em=77.5))
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), rows)
    monkeypatch.setattr("compresskit.evaluate.verdict.evaluate", lambda *_, **__: report)
    done = run("eval", "d", "h", "--data", trained.eval_data, "--baseline", "d", "--gate", rule, "-o", "e.json")
    assert done.code == code
    written = json.loads((place / "e.json").read_text())
    assert written["passed"] is (code == 0)
    assert [gate["row"] for gate in written["gates"]] == ["half"]
    if code:
        assert done.err.startswith(f"error: {rule} fails for half (")
        assert done.err.count("\n") == 1


def test_files_beside_the_table(trained: Trained, run: Run, place: Path, monkeypatch) -> None:
    """The verdicts for CI, and the summary of a GitHub Actions job, to which other steps have written before."""
    rows = (Row("dense", "d", "encoder", "train", True, em=80.0), Row("half", "h", "encoder", "smp", False, em=77.5))
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), rows)
    monkeypatch.setattr("compresskit.evaluate.verdict.evaluate", lambda *_, **__: report)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    (place / "summary.md").write_text("before\n")
    words = ["eval", "d", "h", "--data", str(trained.eval_data), "--baseline", "d", "--gate", "em>=base-3"]
    done = run(*words, "--junit", "gates.xml", "--format", "csv")
    assert done.code == 0
    assert done.out.splitlines()[0].startswith("name,path,family,method,baseline,em")
    assert '<testcase classname="half" name="em&gt;=base-3" />' in (place / "gates.xml").read_text()
    assert (place / "summary.md").read_text().startswith("before\n| Name | Method | EM |")


@pytest.mark.parametrize(("number", "code"), [(errno.ENOENT, 3), (errno.EACCES, 3), (errno.EIO, 5)])
def test_what_the_system_says_of_a_file_is_a_row(number: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the worker meets, in the words and with the code of the command itself."""

    def fails(_: object) -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(worker, "run", fails)
    outcomes: list[Outcome] = []
    monkeypatch.setattr(Outcome, "write", lambda outcome, _: outcomes.append(outcome))
    assert worker._measured(cast(Measurement, SimpleNamespace(quiet=True, verbose=False, folder=None))) == code
    console.configure()
    error = outcomes[0].error or ""
    assert error.startswith(f"some/file: {os.strerror(number)}")
    assert "Errno" not in error


def test_a_result_without_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line, by the process that waits for it."""
    monkeypatch.setattr(process, "_run_worker", lambda _: 5)
    settings = EvalSettings(device="cpu")
    measurement = Measurement("a", "a", ExampleFiles(("a",), "b", "c", "d"), settings, tmp_path)
    outcome = process.measure_in_process(measurement)
    assert outcome.error == "its result could not be written; set TMPDIR to a folder with room"
    assert outcome.error_code == 5


# What eval refuses before it starts a process.


@pytest.mark.parametrize(
    ("code", "words", "line"),
    [
        (
            2,
            "eval --data DATA",
            "no checkpoint to evaluate; name at least one alias, Hub id or folder, or list",
        ),
        (2, "eval DENSE --data DATA --junit no/a.xml", "--junit no/a.xml: there is no folder no; make it first"),
        (2, "eval DENSE --data DATA -o no/where.json", "--output no/where.json: there is no folder no; make it first"),
        (2, "eval DENSE --data DATA --max-length 64 --stride 64", "--stride 64 does not fit in --max-length 64"),
        (2, "eval DENSE --data DATA --gate em>=base", "--gate 'em>=base' compares with a baseline; name it with"),
        (2, "eval DENSE --data DATA --html no/a.html", "--html no/a.html: there is no folder no; make it first"),
        (2, "eval DENSE --data DATA --html .", "--html . is a folder"),
        (2, "eval DENSE --data DATA --plot a.pdf", "--plot a.pdf: "),
        (
            2,
            "eval DENSE --data DATA -o /dev/null",
            "--output /dev/null is not a regular file; give the name of one",
        ),
        (2, "eval DENSE --data DATA -o a --html a", "--html a: is the file of --output too; give each its own"),
        (2, "eval DENSE --data DATA --null-threshold nan", "--null-threshold nan is not "),
        (2, "eval DENSE --data DATA --gate best_em>=3", "--gate 'best_em>=3': best_em is chosen on the very questions"),
        (2, "eval DENSE --data DATA --gate-ci", "--gate-ci says how gates are held, and there is none"),
        (2, "eval DENSE --data DATA --null-threshold auto", "--null-threshold auto and --tune-data belong together"),
        (2, "eval DENSE --data DATA --null-threshold much", "--null-threshold much is not "),
        (2, "eval DENSE --data DATA --metrics meteor", "--metrics meteor "),
        (2, "eval DENSE --data DATA --limit 0", "--limit 0 is not "),
        (2, "eval DENSE --data DATA --rounds 4", "--rounds 4 has no effect without --baseline; leave it out"),
        (2, "eval DENSE --data DATA --rounds 1 --baseline DENSE", "--rounds 1 is not "),
        (2, "eval DENSE --data DATA --seed 1", "--seed 1 has no effect without --limit, --shots or --rounds"),
        (2, "eval DENSE --data DATA --gate latency<=20ms|+2ms", "--gate 'latency<=20ms|+2ms' compares with a baseline"),
        (2, "report", "missing argument 'FILE…'"),
        (2, "report DATA --format pdf", "--format pdf "),
        (3, "report nowhere.json", "nowhere.json does not exist"),
        (3, "report DATA", "DATA: has no schema 'compresskit.eval/1'"),
        (2, "eval DENSE --data DATA --format pdf", "--format pdf "),
        (2, "eval DENSE --data DATA --gate em", "--gate 'em' is not a rule"),
        (3, "eval DENSE --data nowhere.json", "nowhere.json: no such file"),
        (4, "eval DENSE --data nobody/nothing", "nobody/nothing: the Hugging Face Hub cannot be reached"),
    ],
)
def test_eval(code: int, words: str, line: str, trained: Trained, refused) -> None:
    known = {"DATA": str(trained.eval_data), "DENSE": str(trained.dense)}
    found = refused(code, *(known.get(word, word) for word in words.split()))
    assert found.replace(str(trained.eval_data), "DATA").startswith(line)


@pytest.mark.parametrize(
    ("words", "use_cache", "turns"),
    [
        ("--gate size<=0.6x", True, None),
        ("--gate latency<=1.1x", True, Plan(6, frozenset({"latency_ms_p50"}))),
        ("--gate latency<=9ms", False, None),
        ("--rounds 3 --seed 1", True, Plan(3, frozenset({"latency_ms_p50", "questions_per_s"}))),
    ],
)
def test_what_is_measured_anew(
    words: str, use_cache: bool, turns: Plan | None, trained: Trained, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Extras] = []

    def evaluate(*_: Any, extras: Extras, **__: Any) -> Report:
        found.append(extras)
        return Report("now", {}, {}, Dataset("d", "0", 2, 1), rows())

    monkeypatch.setattr("compresskit.evaluate.verdict.evaluate", evaluate)
    run("eval", "d", "h", "--data", trained.eval_data, "--baseline", "d", *words.split())
    assert found == [Extras(use_cache=use_cache, turns=turns)]


def rows() -> tuple[Row, ...]:
    return (
        Row("dense", "d", "encoder", "train", True, em=80.0, deploy_bytes=1000, delta_em=0.0),
        Row("half", "h", "encoder", "smp", False, em=77.5, deploy_bytes=500, delta_em=-2.5),
    )


LOST = {
    3: Row("broken", "b", "-", "-", False, error="it is damaged; copy it again", error_code=3),
    4: Row("far", "f", "-", "-", False, error="the Hub cannot be reached", error_code=4),
    5: Row("large", "l", "-", "-", False, error="out of memory", error_code=5),
}


@pytest.mark.parametrize(
    ("lost", "code"), [((3,), 3), ((4,), 4), ((5,), 5), ((3, 5), 3), ((4, 5), 3), ((3, 4, 5), 3)], ids=str
)
def test_lost_rows_end_in_an_error_after_the_table(lost, code, trained: Trained, run: Run, place: Path, monkeypatch):
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), (*rows(), *(LOST[key] for key in lost)))
    monkeypatch.setattr("compresskit.evaluate.verdict.evaluate", lambda *_, **__: report)
    words = ["eval", "d", "h", "--data", str(trained.eval_data), "--baseline", "d", "--gate", "em>=base-1"]
    done = run(*words, "-o", "e.json")
    assert done.code == code
    names = ", ".join(LOST[key].name for key in lost)
    assert done.err == f"error: {names} could not be scored; mend as the rows say, or leave out\n"
    assert "77.50" in done.out
    assert len(json.loads((place / "e.json").read_text())["rows"]) == 2 + len(lost)


def test_saved_results_are_rendered_and_gated_again(run: Run, place: Path) -> None:
    saved = Report("now", {}, {}, Dataset("dev.json", "0", 2, 1), rows())
    (place / "a.json").write_text(saved.to_json())
    other = replace(rows()[1], name="tenth", em=70.0, delta_em=-10.0)
    (place / "b.json").write_text(replace(saved, rows=(rows()[0], other)).to_json())
    done = run("report", "a.json", "b.json", "--gate", "em>=base-3", "--format", "csv", "-o", "all.json")
    assert done.code == 1
    assert done.err == "error: em>=base-3 fails for tenth (70, limit 77)\n"
    assert [line.split(",")[0] for line in done.out.splitlines()] == ["name", "dense", "half", "tenth"]
    # Without a rule of its own it holds those that the file was gated with.
    again = run("report", "all.json", "--html", "all.html", "--junit", "all.xml")
    assert (again.code, again.err) == (1, done.err)
    assert "tenth" in (place / "all.html").read_text()
    assert "em&gt;=base-3" in (place / "all.xml").read_text()
    assert run("report", "all.json", "--gate", "em>=base-10").code == 0
    assert run("report", "all.json", "--baseline", "half", "--gate", "em>=base-3").code == 1
    (place / "ci.json").write_text(replace(saved, gates=(Gate("em>=70", "half", False, None, 70.0, True),)).to_json())
    (place / "point.json").write_text(replace(saved, gates=(Gate("no_ans_em>=0", "half", False, None, 0),)).to_json())
    both = run("report", "ci.json", "point.json", "--format", "json")
    assert [(gate["rule"], gate.get("ci95", False)) for gate in json.loads(both.out)["gates"]] == [
        ("em>=70", True),
        ("no_ans_em>=0", False),
    ]
    assert run("report", "all.json", "--baseline", "nobody").code == 3


def test_a_project_file_names_it_all(trained: Trained, run: Run, place: Path, monkeypatch) -> None:
    (place / "pyproject.toml").write_text(
        '[tool.compresskit.eval]\ncheckpoints = ["*"]\ndata = "dev.json"\ngates = ["em>=80"]\nhtml = "eval.html"\n'
    )
    (place / "half").mkdir()
    seen: list[Any] = []
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), rows()[1:])

    def seeing(*args: Any, **_: Any) -> Report:
        seen.append(args)
        return report

    monkeypatch.setattr("compresskit.evaluate.verdict.evaluate", seeing)
    done = run("eval")
    assert done.code == 1
    assert done.err == "error: em>=80 fails for half (77.5, limit 80)\n"
    assert seen[0][:2] == (("half",), "dev.json")
    assert (place / "eval.html").is_file()
    assert run("eval", "--gate", "em>=70", "--batch-size", "8").code == 0
    assert seen[1][2].batch_size == 8


def test_an_output_that_fails_costs_itself_alone(run: Run, place: Path, monkeypatch) -> None:
    """The table is printed and the other files are written; the exit code and one line tell."""
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), rows())
    (place / "a.json").write_text(report.to_json())
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "nowhere" / "summary.md"))

    def full(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compresskit.evaluate.report.html.render", full)
    done = run("report", "a.json", "--html", "a.html", "--plot", "a.png", "--junit", "a.xml", "-o", "b.json")
    assert done.code == 5
    assert "77.50" in done.out
    assert done.err.splitlines()[-1].startswith("error: --html ")
    assert "No space left on device" in done.err
    assert "summary" in done.err
    assert {path.name for path in place.iterdir()} == {"a.json", "a.png", "a.xml", "b.json"}


def test_nothing_to_draw_is_a_warning(run: Run, place: Path) -> None:
    report = Report("now", {}, {}, Dataset("d", "0", 2, 1), (LOST[3],))
    (place / "a.json").write_text(report.to_json())
    done = run("report", "a.json", "--plot", "a.png")
    assert done.code == 3
    assert done.err.splitlines()[0].startswith("warning: ")
    assert done.err.splitlines()[-1] == "error: b: it is damaged; copy it again"
    assert not (place / "a.png").exists()


def test_a_link_stays_one(run: Run, place: Path) -> None:
    (place / "a.json").write_text(Report("now", {}, {}, Dataset("d", "0", 2, 1), rows()).to_json())
    (place / "real.json").write_text("old")
    (place / "link.json").symlink_to(place / "real.json")
    assert run("report", "a.json", "-o", "link.json").code == 0
    assert (place / "link.json").is_symlink()
    assert (place / "real.json").read_text() == (place / "a.json").read_text()


@pytest.mark.usefixtures("measured_here")
def test_a_checkpoint_that_was_measured_is_the_real_baseline(trained: Trained, place: Path, run: Run) -> None:
    asked = ["--data", str(trained.eval_data), "--latency-questions", "0"]
    assert run("eval", trained.dense, *asked, "-o", "eval.json").code == 0
    size = json.loads((place / "eval.json").read_text())["rows"][0]["deploy_bytes"]
    words = ["--baseline", str(trained.dense), "--gate", "size<=0.3x", "--allow-weak-baseline", "--format", "json"]
    for more, limit in ((asked, 0.3 * size), (asked[:2], 0.3 * 4e8)):  # with other settings it is another measurement
        done = run("eval", "--prove-gates", *words, *more)
        proof = json.loads(done.out)
        assert (done.code, proof["proofs"][0]["above"]["limit"]) == (0, pytest.approx(limit))
        assert ("as it was measured" in proof["baseline"]) == (more is asked)
