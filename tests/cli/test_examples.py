"""The snippets for CI services: their very commands, with their very configuration, on checkpoints trained here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from compresskit import console
from compresskit.cli.app import main
from compresskit.evaluate.row import Report
from tests.cli.conftest import Trained
from tests.here import measuring_here

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "examples" / "ci"


def github_commands() -> list[str]:
    workflow = yaml.safe_load((CI / "github.yml").read_text())
    return [step["run"] for step in workflow["jobs"]["eval"]["steps"] if "run" in step]


def gitlab_commands() -> list[str]:
    return list(yaml.safe_load((CI / "gitlab.yml").read_text())["compresskit"]["script"])


@pytest.fixture
def project(tmp_path: Path, trained: Trained) -> Path:
    """A project as compresskit.yaml describes it, and `compresskit` on the path of its shell."""
    # Six steps make no reader of the dense model.
    written = (CI / "compresskit.yaml").read_text(encoding="utf-8")
    (tmp_path / "compresskit.yaml").write_text(f"{written}  allow-weak-baseline: true\n", encoding="utf-8")
    shutil.copytree(trained.dense, tmp_path / "runs" / "dense")
    shutil.copytree(trained.pruned("smp"), tmp_path / "runs" / "smp-50")  # its base is ../dense here too
    (tmp_path / "data").mkdir()
    shutil.copy(trained.eval_data, tmp_path / "data" / "dev.json")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "compresskit"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m compresskit "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(github_commands(), id="github"),
        pytest.param(gitlab_commands(), id="gitlab", marks=pytest.mark.slow),
    ],
)
def test_the_commands_of_the_job(commands: list[str], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first finds rows of unchanged checkpoints in the cache, as most jobs do; the second measures one."""
    assert commands[0] == 'pip install "$COMPRESSKIT"'  # what is tested here is installed already
    (command,) = commands[1:]
    fill_the_cache(project, monkeypatch)
    environment = {
        **os.environ,
        "PATH": f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(project / "summary.md"),
        "COMPRESSKIT_CACHE": str(project / "cache"),
    }
    done = subprocess.run(["bash", "-e", "-c", command], cwd=project, env=environment, capture_output=True, text=True)
    report = Report.from_json((project / "eval.json").read_text())
    assert [(row.name, row.baseline) for row in report.rows] == [("dense", True), ("smp-50", False)]
    dense, small = (row.em or 0.0 for row in report.rows)
    assert [(gate.rule, gate.passed) for gate in report.gates] == [
        ("em>=base-1.0", small >= dense - 1),
        ("size<=1.1x", True),
    ]
    assert done.returncode == (0 if report.passed else 1), done.stderr
    assert len(ElementTree.parse(project / "gates.xml").getroot()) == 2
    assert "smp-50" in (project / "eval.html").read_text()
    assert (project / "summary.md").read_text().startswith("| Name ")

    # Something large comes into the checkpoint's folder: the same command fails the job.
    (project / "runs" / "smp-50" / "words.txt").write_bytes(bytes(dense_bytes(report)))
    done = subprocess.run(["bash", "-e", "-c", command], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "size<=1.1x fails for smp-50" in done.stderr.splitlines()[-1]
    assert json.loads((project / "eval.json").read_text())["passed"] is False


def fill_the_cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the checkpoints in this process, and leave no more than their rows in the cache."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("COMPRESSKIT_CACHE", str(project / "cache"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    before = set(project.iterdir())
    with measuring_here():
        assert main(["eval"]) in (0, 1)
    console.configure()
    for path in set(project.iterdir()) - before - {project / "cache"}:
        path.unlink()
    monkeypatch.undo()


def dense_bytes(report: Report) -> int:
    return report.rows[0].deploy_bytes or 0


def test_the_artefacts_that_the_jobs_keep_are_those_that_the_configuration_writes() -> None:
    written = {
        yaml.safe_load((CI / "compresskit.yaml").read_text())["eval"][key] for key in ("output", "html", "junit")
    }
    steps = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["eval"]["steps"]
    assert set(steps[-1]["with"]["path"].split()) == written
    artifacts = yaml.safe_load((CI / "gitlab.yml").read_text())["compresskit"]["artifacts"]
    assert {*artifacts["paths"], artifacts["reports"]["junit"]} == written
