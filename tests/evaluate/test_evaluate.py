"""Checkpoints measured apart: names, differences, and what becomes of a worker that fails."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from compresskit.errors import InputError, MissingError, RunFailed, UsageError
from compresskit.evaluate import evaluate as module
from compresskit.evaluate.evaluate import evaluate, with_differences
from compresskit.evaluate.job import EvalSettings, Job, Outcome
from compresskit.evaluate.row import Row

# A worker that does what the name of its checkpoint says; it needs no torch, so it is quick.
FAKE = """
import os, sys, time
from pathlib import Path
from compresskit.evaluate.job import Job, Outcome
from compresskit.evaluate.row import Row

job = Job.from_json(sys.stdin.read())
print("noise on stdout")
what = Path(job.ref).name
if what.startswith("em"):
    row = Row(job.name, job.ref, "encoder", "train", False, em=float(what[2:4]), disk_bytes=os.getpid())
    outcome, code = Outcome(row=row, device={"kind": "cpu", "name": "fake"}), 0
elif what == "killed":
    os.kill(os.getpid(), 9)
elif what == "slow":
    Path(os.environ["FAKE_PID"]).write_text(str(os.getpid()))
    time.sleep(60)
elif what == "exit":
    os._exit(7)
elif what == "crash":
    outcome, code = Outcome(error="out of memory; give a smaller --batch-size"), 70
else:
    outcome, code = Outcome(error="it is broken; mend it", error_class=what), 3
job.result.write_text(outcome.to_json())
sys.exit(code)
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
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "fake_worker.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("FAKE_PID", str(tmp_path / "pid"))
    monkeypatch.setattr(module, "_WORKER", "fake_worker")


@pytest.mark.usefixtures("_fake_worker")
class TestWithAFakeWorker:
    def test_report_and_differences(self, data: str, capfd: pytest.CaptureFixture[str]) -> None:
        report = evaluate(["em70", "em72"], data, EvalSettings(), baseline="em75")
        assert [(row.name, row.baseline, row.em, row.delta_em) for row in report.rows] == [
            ("em75", True, 75.0, 0.0),
            ("em70", False, 70.0, -5.0),
            ("em72", False, 72.0, -3.0),
        ]
        # disk_bytes carries the process id here: every checkpoint had a process of its own.
        assert len({os.getpid(), *(row.disk_bytes for row in report.rows)}) == 4
        assert report.dataset.path == data
        assert (report.dataset.questions, report.dataset.unanswerable) == (2, 1)
        assert len(report.dataset.sha256) == 64
        assert report.device == {"kind": "cpu", "name": "fake"}
        assert {"python", "compresskit", "torch", "transformers", "numpy"} <= set(report.versions)
        assert (report.gates, report.passed) == ((), True)
        shown = capfd.readouterr()
        assert shown.out == ""  # stdout belongs to the report
        assert shown.err.count("noise on stdout") == 3

    def test_baseline_among_the_checkpoints_is_not_measured_twice(self, data: str, tmp_path: Path) -> None:
        (tmp_path / "em50").mkdir()
        one, other = str(tmp_path / "em50"), str(tmp_path / "path" / ".." / "em50")
        report = evaluate(["em40", one, other], data, EvalSettings(), baseline=other)
        assert [(row.name, row.baseline) for row in report.rows] == [("em40", False), ("em50", True)]

    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            ("killed", "SIGKILL; most likely out of memory"),
            ("exit", "exit code 7"),
            ("crash", "out of memory"),
        ],
    )
    def test_a_crash_is_a_row_and_the_others_go_on(
        self, what: str, reason: str, data: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = evaluate([what, "em72"], data, EvalSettings(), baseline="em75")
        failed = next(row for row in report.rows if row.name == what)
        assert failed.error is not None
        assert reason in failed.error
        assert replace(failed, error=None) == Row(what, what, "-", "-", False)
        assert [row.em for row in report.rows] == [75.0, None, 72.0]
        assert f"warning: {what}: " in capsys.readouterr().err

    def test_without_any_row_there_is_still_a_report(self, data: str) -> None:
        report = evaluate(["killed"], data, EvalSettings(), baseline="killed")
        assert (report.rows[0].baseline, report.rows[0].delta_em, report.device) == (True, None, {})

    @pytest.mark.parametrize("kind", [InputError, MissingError, RunFailed, UsageError])
    def test_an_error_for_the_user_is_raised_again(self, kind: type[Exception], data: str) -> None:
        with pytest.raises(kind, match="it is broken; mend it") as caught:
            evaluate(["em70", kind.__name__], data, EvalSettings())
        assert caught.type is kind

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


def test_bad_data_is_found_before_any_checkpoint_is_run(tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"eval\.json"):
        evaluate(["no-such-checkpoint"], str(tmp_path / "eval.json"), EvalSettings())


def test_nothing_to_evaluate(data: str) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        evaluate([], data, EvalSettings())


def test_differences_need_both_figures() -> None:
    rows = [
        Row("a", "a", "-", "-", True, em=50.0),
        Row("b", "b", "-", "-", False, em=52.5),
        Row("c", "c", "-", "-", False, error="out of memory"),
    ]
    outcomes = [
        Outcome(question_em=[1, 0, 1, 0], paragraph=[0, 0, 1, 2]),
        Outcome(question_em=[1, 1, 1, 0], paragraph=[0, 0, 1, 2]),
        Outcome(error="out of memory"),
    ]
    found = with_differences(rows, outcomes)
    assert [row.delta_em for row in found] == [0.0, 2.5, None]
    assert [row.p_value for row in found] == [None, 1.0, None]  # one question won, none lost
    assert found[1].delta_em_ci95 is not None
    assert found[1].delta_em_ci95[0] == 0.0 < found[1].delta_em_ci95[1]
    assert [row.delta_em for row in with_differences(rows[1:], outcomes[1:])] == [None, None]


def test_names_are_short_and_unique(tmp_path: Path) -> None:
    for folder in ("a/model", "b/model", "c/other"):
        (tmp_path / folder).mkdir(parents=True)
    refs = [str(tmp_path / folder) for folder in ("a/model", "b/model", "c/other")]
    names = module._unique_names([*refs, "bert", "owner/name"])
    assert names == ["a/model", "b/model", "other", "bert", "owner/name"]


def test_job_and_outcome_pass_through_json(tmp_path: Path) -> None:
    settings = EvalSettings(batch_size=3, predictions_dir=tmp_path)
    job = Job("ref", "name", "data", settings, tmp_path / "result", tmp_path / "name.json", verbose=True)
    assert Job.from_json(job.to_json()) == job
    plain = replace(job, settings=EvalSettings(), predictions=None)
    assert Job.from_json(plain.to_json()) == plain
    outcome = Outcome(row=Row("a", "a", "-", "-", True, delta_em_ci95=(0.1, 0.2)), device={"threads": 2})
    assert Outcome.from_json(outcome.to_json()) == outcome
    failed = Outcome(error="broken", error_class="InputError")
    assert Outcome.from_json(failed.to_json()) == failed


@pytest.mark.parametrize(
    "values",
    [{"batch_size": 0}, {"max_length": 0}, {"stride": -1}, {"stride": 384}, {"latency_questions": -1}],
)
def test_impossible_settings(values: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(values)).replace("_", " ")):
        EvalSettings(**values)  # type: ignore[arg-type]
