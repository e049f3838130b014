"""The snippets for CI services: their very commands, with their very configuration, on checkpoints trained here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from compresskit import console
from compresskit.cli.app import main
from compresskit.evaluate.row import Report
from tests.action import ROOT, Runner
from tests.cli.conftest import Trained
from tests.here import measuring_here

CI = ROOT / "examples" / "ci"


def gitlab_command() -> str:
    install, command = yaml.safe_load((CI / "gitlab.yml").read_text())["compresskit"]["script"]
    assert install == 'pip install "$COMPRESSKIT"'  # what is tested here is installed already
    return str(command)


def github_inputs() -> dict[str, str]:
    """What the workflow tells the action."""
    steps = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["eval"]["steps"]
    (used,) = [step for step in steps if step["uses"].startswith("OWNER/compresskit@")]
    return {name: json.dumps(value) for name, value in used["with"].items()}


@pytest.fixture
def project(tmp_path: Path, trained: Trained) -> Path:
    """A project as compresskit.yaml describes it."""
    # Six steps make no reader of the dense model.
    written = (CI / "compresskit.yaml").read_text(encoding="utf-8")
    (tmp_path / "compresskit.yaml").write_text(f"{written}  allow-weak-baseline: true\n", encoding="utf-8")
    shutil.copytree(trained.dense, tmp_path / "runs" / "dense")
    shutil.copytree(trained.pruned("smp"), tmp_path / "runs" / "smp-50")  # its base is ../dense here too
    (tmp_path / "data").mkdir()
    shutil.copy(trained.eval_data, tmp_path / "data" / "dev.json")
    return tmp_path


def run_on_gitlab(runner: Runner) -> tuple[int, str, Path]:
    """Exit code and last words of the job, and the folder of its report."""
    command = ["bash", "-e", "-c", gitlab_command()]
    done = subprocess.run(command, cwd=runner.folder, env=runner.environment, capture_output=True, text=True)
    return done.returncode, done.stderr, runner.folder


def run_on_github(runner: Runner) -> tuple[int, str, Path]:
    """The same of the action."""
    measured = runner.run("Measure and gate")
    assert measured.returncode == 0, measured.stderr
    return runner.run("Verdict").returncode, measured.stderr, Path(runner.output("json")).parent


@pytest.mark.parametrize(
    "run",
    [pytest.param(run_on_github, id="github"), pytest.param(run_on_gitlab, id="gitlab", marks=pytest.mark.slow)],
)
def test_the_commands_of_the_job(
    run: Callable[[Runner], tuple[int, str, Path]], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first finds rows of unchanged checkpoints in the cache, as most jobs do; the second measures one."""
    fill_the_cache(project, monkeypatch)
    runner = Runner.prepared(project, github_inputs(), COMPRESSKIT_CACHE=str(project / "cache"))
    code, words, folder = run(runner)
    report = Report.from_json((folder / "eval.json").read_text())
    assert [(row.name, row.baseline) for row in report.rows] == [("dense", True), ("smp-50", False)]
    dense, small = (row.em or 0.0 for row in report.rows)
    assert [(gate.rule, gate.passed) for gate in report.gates] == [
        ("em>=base-1.0", small >= dense - 1),
        ("size<=1.1x", True),
    ]
    assert code == (0 if report.passed else 1), words
    assert len(ElementTree.parse(folder / "gates.xml").getroot()) == 2
    assert "smp-50" in (folder / "eval.html").read_text()
    assert runner.written("GITHUB_STEP_SUMMARY").startswith("| Name ")

    # Something large comes into the checkpoint's folder: the same command fails the job.
    (project / "runs" / "smp-50" / "words.txt").write_bytes(bytes(dense_bytes(report)))
    code, words, folder = run(runner)
    assert code == 1
    assert words.splitlines()[-1].startswith("error: ")
    assert "size<=1.1x fails for smp-50" in words.splitlines()[-1]
    assert json.loads((folder / "eval.json").read_text())["passed"] is False


def fill_the_cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the checkpoints in this process, and leave no more than their rows in the cache."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("COMPRESSKIT_CACHE", str(project / "cache"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    before = set(project.iterdir())
    with measuring_here():
        assert main(["eval"]) == 0
    console.configure()
    for path in set(project.iterdir()) - before - {project / "cache"}:
        path.unlink()
    monkeypatch.undo()


def dense_bytes(report: Report) -> int:
    return report.rows[0].deploy_bytes or 0


def test_the_artefacts_that_the_job_keeps_are_those_that_the_configuration_writes() -> None:
    written = {
        yaml.safe_load((CI / "compresskit.yaml").read_text())["eval"][key] for key in ("output", "html", "junit")
    }
    artifacts = yaml.safe_load((CI / "gitlab.yml").read_text())["compresskit"]["artifacts"]
    assert {*artifacts["paths"], artifacts["reports"]["junit"]} == written
