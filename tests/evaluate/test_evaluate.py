"""Checkpoints measured apart: names, differences, and what becomes of a worker that fails."""

import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from compresskit.cli.interrupts import ended_by_signals
from compresskit.data.examples import ExampleFiles
from compresskit.errors import CompresskitError, InputError, RunFailed, UsageError
from compresskit.evaluate import evaluate as module
from compresskit.evaluate import process
from compresskit.evaluate.evaluate import Extras, evaluate
from compresskit.evaluate.measurement import Measurement, Outcome
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.kinds import fingerprint

# A worker that does what the name of its checkpoint says; it needs no torch, so it is quick.
FAKE = """
import json, os, sys, time
from pathlib import Path
from compresskit.evaluate.measurement import Measurement, Outcome
from compresskit.evaluate.row import Row

measurement = Measurement.from_json(sys.stdin.readline())
print("noise on stdout")
what = Path(measurement.ref).name
if what.startswith("em"):
    row = Row(measurement.name, measurement.ref, "encoder", "train", False, em=float(what[2:4]), f1=90.0)
    row = Row(**{**row.to_dict(), "device": {"kind": "cpu", "name": "fake"}, "params_total": os.getpid()})
    right = [float(float(what[2:4]) > 70), 1.0]
    outcome = Outcome(row=row, question_em=right, question_f1=right, paragraph=[0, 0])
    answers = {"q1": "Rome" if right[0] else "Tiber", "q2": ""}
    (measurement.folder / "predictions.json").write_text(json.dumps(answers))
elif what == "killed":
    os.kill(os.getpid(), 9)
elif what == "slow":
    Path(os.environ["FAKE_PID"]).write_text(str(os.getpid()))
    sys.stdin.read()  # which ends with the other process, or by its hand
    sys.exit(130)
elif what == "exit":
    os._exit(7)
else:
    outcome = Outcome(error="it is broken; mend it", error_code=int(what[4:]))
outcome.write(measurement.folder)
sys.exit(outcome.error_code or 0)
"""

DATA = {
    "version": "v2.0",
    "data": [
        {
            "title": "Rome",
            "paragraphs": [
                {
                    "context": "Rome is the capital of Italy. It lies on the Tiber.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "What lies on the Tiber?",
                            "answers": [{"text": "Rome", "answer_start": 0}],
                            "is_impossible": False,
                        },
                        {"id": "q2", "question": "Who built it?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(DATA), encoding="utf-8")
    return str(path)


@pytest.fixture
def _fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake worker, folders as its checkpoints, and a cache of their own."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "fake_worker.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("FAKE_PID", str(tmp_path / "pid"))
    monkeypatch.setenv("COMPRESSKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(process, "_WORKER", "fake_worker")
    monkeypatch.chdir(tmp_path)
    for name in ("em40", "em50", "em70", "em72", "em75", "killed", "slow", "exit", "code3", "code4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"name": name}))


def processes(report: Report) -> list[int | None]:
    """The process that measured each row: `params_total` carries it here."""
    return [row.params_total for row in report.rows]


@pytest.mark.usefixtures("_fake_worker")
class TestWithAFakeWorker:
    def test_report_and_differences(self, data: str, capfd: pytest.CaptureFixture[str]) -> None:
        report = evaluate(["em70", "em72"], data, EvalSettings(), baseline="em75")
        assert [(row.name, row.baseline, row.em, row.delta_em) for row in report.rows] == [
            ("em75", True, 75.0, 0.0),
            ("em70", False, 70.0, -5.0),
            ("em72", False, 72.0, -3.0),
        ]
        assert len({os.getpid(), *processes(report)}) == 4  # every checkpoint had a process of its own
        assert report.rows[1].delta_em_ci95 is None  # one paragraph: nothing to draw
        assert (report.rows[1].questions_lost, report.rows[2].questions_lost) == (1, 0)
        assert report.dataset.path == data
        assert (report.dataset.questions, report.dataset.unanswerable, report.dataset.sampled_from) == (2, 1, None)
        assert len(report.dataset.sha256) == 64
        assert report.device == {"kind": "cpu", "name": "fake", "load": report.device["load"]} != report.rows[0].device
        assert {"python", "compresskit", "torch", "transformers", "numpy"} <= set(report.versions)
        assert report.rows[0].versions == report.versions
        assert (report.gates, report.passed) == ((), True)
        shown = capfd.readouterr()
        assert shown.out == ""  # stdout belongs to the report
        assert shown.err.count("noise on stdout") == 3

    def test_baseline_among_the_checkpoints_is_not_measured_twice(self, data: str, tmp_path: Path) -> None:
        one, other = str(tmp_path / "em50"), str(tmp_path / "path" / ".." / "em50")
        report = evaluate(["em40", one, other], data, EvalSettings(), baseline=other)
        assert [(row.name, row.baseline) for row in report.rows] == [("em40", False), ("em50", True)]

    @pytest.mark.parametrize(
        ("what", "reason", "code"),
        [
            ("killed", "SIGKILL, most likely out of memory; give a smaller --batch-size", 5),
            ("exit", "exit code 7", 5),
            ("code3", "it is broken; mend it", 3),
            ("code4", "it is broken; mend it", 4),
            ("nowhere/at/all", "there is no folder", 3),
            ("berd", "unknown model 'berd'; did you mean bert?", 3),
        ],
    )
    def test_what_cannot_be_scored_is_a_row_and_the_others_go_on(
        self, what: str, reason: str, code: int, data: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = evaluate([what, "em72"], data, EvalSettings(), baseline="em75")
        failed = next(row for row in report.rows if row.path == what)
        assert failed.error is not None
        assert reason in failed.error
        assert replace(failed, error=None, error_code=None) == Row(failed.name, what, "-", "-", False)
        assert failed.error_code == code
        assert [row.em for row in report.rows] == [75.0, None, 72.0]
        assert f"warning: {failed.name} cannot be scored, as the report will say\n" in capsys.readouterr().err

    @pytest.mark.parametrize(("what", "code"), [("code3", 3), ("code4", 4), ("berd", 3), ("runs/dnese", 3)])
    def test_a_baseline_that_cannot_be_read_ends_it_before_the_others(
        self, what: str, code: int, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "runs" / "dense").mkdir(parents=True)
        with pytest.raises(CompresskitError) as caught:
            evaluate(["em70", what, "em72"], data, EvalSettings(), baseline=what)
        told = str(caught.value)
        assert told.startswith("the baseline cannot be scored, and nothing else was measured: ")
        assert (caught.value.exit_code, "did you mean runs/dense?" in told) == (code, what == "runs/dnese")
        loading = f"{what}: loading torch and transformers, in a process of its own\n"
        assert capsys.readouterr().err == (loading if what.startswith("code") else "")  # a path is looked at before
        assert list((tmp_path / "cache").rglob("outcome.json")) == []

    def test_without_any_row_there_is_still_a_report(self, data: str) -> None:
        report = evaluate(["killed"], data, EvalSettings(), baseline="killed")
        assert (report.rows[0].baseline, report.rows[0].delta_em, report.device) == (True, None, {})

    def test_an_unchanged_checkpoint_is_not_run_again(self, data: str, tmp_path: Path) -> None:
        first = evaluate(["em70", "em72"], data, EvalSettings())
        again = evaluate(["em72", "em70"], data, EvalSettings(), baseline="em72")
        assert processes(again) == processes(first)[::-1]
        assert again.rows[1].delta_em == -2.0  # a row is kept, not what it was compared with
        assert again.rows[0].created == first.rows[1].created
        (tmp_path / "em70" / "config.json").write_text("{}")
        changed = evaluate(["em70", "em72"], data, EvalSettings())
        assert processes(changed)[0] not in processes(first)
        assert processes(changed)[1] == processes(first)[1]

    def test_other_settings_or_data_are_another_measurement(self, data: str, tmp_path: Path) -> None:
        first = processes(evaluate(["em70"], data, EvalSettings()))
        other = tmp_path / "other.json"
        other.write_text(Path(data).read_text(encoding="utf-8").replace("Tiber", "river"), encoding="utf-8")
        for found in (
            evaluate(["em70"], data, EvalSettings(batch_size=2)),
            evaluate(["em70"], str(other), EvalSettings()),
            evaluate(["em70"], data, EvalSettings(), extras=Extras(use_cache=False)),
        ):
            assert processes(found) != first
        # What ran for want of trust in the cache is what the cache knows from now on.
        assert processes(evaluate(["em70"], data, EvalSettings())) == processes(found)

    def test_bytes_are_those_of_now(self, data: str, tmp_path: Path) -> None:
        """Files that are not needed to run a checkpoint leave its row, but not its bytes on the disk, as they are."""
        before = evaluate(["em70"], data, EvalSettings()).rows[0]
        (tmp_path / "em70" / "log.jsonl").write_text("x" * 1000)
        after = evaluate(["em70"], data, EvalSettings()).rows[0]
        assert after.created == before.created
        assert (after.disk_bytes or 0) - (before.disk_bytes or 0) == 1000

    def test_what_the_harness_does_is_not_kept(self, data: str) -> None:
        settings = EvalSettings(harness=("task.yaml",))
        assert processes(evaluate(["em70"], data, settings)) != processes(evaluate(["em70"], data, settings))

    def test_a_file_that_cannot_be_read_costs_one_row(self, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(ref: str) -> str:
            if ref == "em70":
                raise OSError(5, "Input/output error")
            return fingerprint(ref)

        monkeypatch.setattr(module, "fingerprint", fails)
        report = evaluate(["em70", "em72", "x" * 300], data, EvalSettings())
        assert [row.em for row in report.rows] == [None, 72.0, None]
        assert [row.error_code for row in report.rows] == [3, None, 3]
        assert report.rows[0].error == "em70: cannot be read (Input/output error); restore it"

    def test_settings_stand_in_the_row(self, data: str) -> None:
        (row,) = evaluate(["em70"], data, EvalSettings(batch_size=7, metrics=("bleu",))).rows
        assert (row.settings["batch_size"], row.settings["metrics"], row.settings["dtype"]) == (7, ["bleu"], "float32")

    def test_entries_that_are_not_whole_are_measured_again(self, data: str, tmp_path: Path) -> None:
        first = processes(evaluate(["em70"], data, EvalSettings()))
        (entry,) = (tmp_path / "cache" / "eval").iterdir()
        for name, content in (("predictions.json", None), ("outcome.json", '{"row": []}'), ("outcome.json", "{}")):
            if content is None:
                (entry / name).unlink()
            else:
                (entry / name).write_text(content)
            again = processes(evaluate(["em70"], data, EvalSettings()))
            assert again != first
            first = again

    def test_what_killed_jobs_left_goes_after_a_day(self, data: str, tmp_path: Path) -> None:
        folder = tmp_path / "cache" / "eval"
        for name in (".new-old", ".new-young"):
            (folder / name).mkdir(parents=True)
        os.utime(folder / ".new-old", (0, 0))
        evaluate(["em70"], data, EvalSettings())
        assert {path.name for path in folder.glob(".new-*")} == {".new-young"}

    def test_a_failure_is_not_kept(self, data: str, tmp_path: Path) -> None:
        assert evaluate(["code3"], data, EvalSettings()).rows[0].error is not None
        assert not list((tmp_path / "cache").rglob("*"))

    def test_a_cache_that_cannot_be_written(
        self, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("COMPRESSKIT_CACHE", str(tmp_path / "file"))
        report = evaluate(["em70"], data, EvalSettings(), baseline="em75", extras=Extras(flips=1))
        assert [row.em for row in report.rows] == [75.0, 70.0]
        assert [row.predictions for row in report.rows] == [None, None]
        assert len(report.rows[1].flips) == 1
        assert "COMPRESSKIT_CACHE" in capsys.readouterr().err

    def test_a_damaged_entry_is_measured_again(self, data: str, tmp_path: Path) -> None:
        first = evaluate(["em70"], data, EvalSettings())
        (entry,) = (tmp_path / "cache" / "eval").iterdir()
        (entry / "outcome.json").write_text("{")
        assert processes(evaluate(["em70"], data, EvalSettings())) != processes(first)

    def test_answers_lie_beside_the_row_or_where_they_are_wanted(self, data: str, tmp_path: Path) -> None:
        (row,) = evaluate(["em70"], data, EvalSettings()).rows
        assert row.predictions is not None
        assert json.loads(Path(row.predictions).read_text()) == {"q1": "Tiber", "q2": ""}
        extras = Extras(predictions=tmp_path / "answers")
        (row,) = evaluate(["em70"], data, EvalSettings(), names=["a/b c"], extras=extras).rows
        assert row.predictions == str(tmp_path / "answers" / "a" / "b c.json")
        assert json.loads(Path(row.predictions).read_text()) == {"q1": "Tiber", "q2": ""}
        assert [path.name for path in (tmp_path / "answers" / "a").iterdir()] == ["b c.json"]

    def test_answers_that_cannot_be_written(self, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match=r"em70\.json cannot be made \(.*file is not a folder"):
            evaluate(["em70"], data, EvalSettings(), extras=Extras(predictions=tmp_path / "file"))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(RunFailed, match=r"em70\.json: cannot be written"):
            evaluate(["em70"], data, EvalSettings(), extras=Extras(False, predictions=tmp_path / "answers"))

    def test_flips(self, data: str) -> None:
        report = evaluate(["em70", "em72", "killed"], data, EvalSettings(), baseline="em75", extras=Extras(flips=2))
        assert [len(row.flips) for row in report.rows] == [0, 1, 0, 0]
        (flip,) = report.rows[1].flips
        assert (flip.id, flip.gold, flip.baseline, flip.answer, flip.won) == ("q1", ("Rome",), "Rome", "Tiber", False)

    def test_tuning_on_the_evaluation_data_is_refused(self, data: str, tmp_path: Path) -> None:
        copy = tmp_path / "copy.json"
        copy.write_text(Path(data).read_text().replace('"v2.0"', '"v2.1"'))  # other bytes, the same questions
        with pytest.raises(UsageError, match="shares 2 questions with the evaluation data"):
            evaluate(["em70"], data, EvalSettings(null_threshold="auto", tune_data=str(copy)))

    @pytest.mark.skipif(sys.platform == "win32", reason="signals")
    def test_an_interrupt_ends_the_worker_too(self, data: str, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"

        def interrupt() -> None:
            for _ in range(1000):
                if pid_file.exists() and pid_file.read_text():
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                time.sleep(0.01)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            evaluate(["slow"], data, EvalSettings())
        thread.join()
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_that_ends_the_job_ends_the_worker_too(
        self, number: int, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pid_file = tmp_path / "pid"
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

        def end() -> None:
            for _ in range(1000):
                if pid_file.exists() and pid_file.read_text():
                    os.kill(os.getpid(), number)
                    return
                time.sleep(0.01)

        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(KeyboardInterrupt) as caught, ended_by_signals():
            evaluate(["slow"], data, EvalSettings())
        thread.join()
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)
        del caught  # with it the data that were read
        gc.collect()
        assert not list((tmp_path / "temporary").iterdir())


def test_bad_data_is_found_before_any_checkpoint_is_run(tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"eval\.json"):
        evaluate(["no-such-checkpoint"], str(tmp_path / "eval.json"), EvalSettings())


def test_nothing_to_evaluate(data: str) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        evaluate([], data, EvalSettings())


def test_measurement_and_outcome_pass_through_json(tmp_path: Path) -> None:
    settings = EvalSettings(batch_size=3, metrics=("bleu",), null_threshold="auto", tune_data="tune.json", limit=5)
    questions, tuning = (ExampleFiles(("a", name), f"{name}/rows.npy", name, "hash") for name in ("eval", "tune"))
    for measurement in (
        Measurement("ref", "name", questions, settings, tmp_path, 3, tuning, verbose=True),
        Measurement("ref", "name", questions, settings, tmp_path),
    ):
        assert Measurement.from_json(measurement.to_json()) == measurement
    row = Row("a", "a", "-", "-", True, delta_em_ci95=(0.1, 0.2), device={"threads": 2})
    outcome = Outcome(row=row, question_em=[1.0], question_f1=[0.5], paragraph=[3], windows=[2])
    outcome.write(tmp_path)
    assert Outcome.read(tmp_path) == outcome
    failed = Outcome(error="broken", error_code=3)
    assert Outcome.from_json(failed.to_json()).to_json() == failed.to_json()
    assert json.loads(failed.to_json())["error_code"] == 3


@pytest.mark.parametrize(
    "values",
    [
        *({"batch_size": 0}, {"max_length": 0}, {"stride": -1}, {"stride": 384}, {"latency_questions": -1}),
        *({"repeat": 0}, {"limit": 0}, {"null threshold": 0, "null_threshold": "auto"}),
        {"tune data": 0, "tune_data": "tune.json"},
        *({"null threshold": 0, "null_threshold": float("nan")}, {"null threshold": 0, "null_threshold": float("inf")}),
        *({"seed": -1}, {"device": "tpu"}, {"dtype": "int8"}),
    ],
)
def test_impossible_settings(values: dict[str, object]) -> None:
    name = next(iter(values)).replace("_", " ")
    with pytest.raises(UsageError) as caught:
        EvalSettings(**{key: value for key, value in values.items() if " " not in key})  # type: ignore[arg-type]
    assert name in str(caught.value).replace("-", " ")
