"""The GitHub Action: its steps of shell do what they say, whatever is in its inputs, and nothing in it can move.

`tests/cli/test_examples.py` runs it on checkpoints, by a project's file.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.action import EXPRESSION, ROOT, Runner, definition

ANSWERS = {"good.json": {"a": "Ada", "b": "1843"}, "bad one.json": {"a": "Ada", "b": "$(touch pwned)"}}
MEASURE, COMMENT, VERDICT = "Measure and gate", "Comment on the pull request", "Verdict"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two files of answers, one of them half wrong, to two questions."""
    context = "Ada wrote it in 1843."
    asked = [("a", "Who?", "Ada"), ("b", "When?", "1843")]
    questions = [
        {"id": key, "question": text, "answers": [{"text": answer, "answer_start": context.index(answer)}]}
        for key, text, answer in asked
    ]
    paragraphs = [{"context": context, "qas": questions}]
    (tmp_path / "answers").mkdir()
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    for name, answers in ANSWERS.items():
        (tmp_path / "answers" / name).write_text(json.dumps(answers))
    return tmp_path


def test_a_gate_that_fails(project: Path) -> None:
    """With names that a shell would run, or take apart, if they were a part of its script."""
    inputs = {
        "checkpoints": " answers/*.json \n\n",
        "baseline": "answers/good.json",
        "data": "dev.json",
        "gates": "em>=base-1\n  em>=40  \n",
        "options": "--limit=2\n--seed=1\n",
    }
    runner = Runner.prepared(project, inputs)
    done = runner.run(MEASURE)
    assert done.returncode == 0, done.stderr
    assert "error: em>=base-1 fails for bad one.json" in done.stderr
    assert (runner.output("passed"), runner.output("exit-code")) == ("false", "1")
    assert runner.run(VERDICT).returncode == 1
    report = json.loads(Path(runner.output("json")).read_text())
    assert sorted(row["name"] for row in report["rows"]) == ["bad one.json", "good.json"]
    assert [(gate["rule"], gate["passed"]) for gate in report["gates"]] == [("em>=base-1", False), ("em>=40", True)]
    suite = ElementTree.parse(runner.output("junit")).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert "bad one.json" in Path(runner.output("html")).read_text()
    summary, table = runner.written("GITHUB_STEP_SUMMARY"), Path(runner.output("markdown")).read_text()
    assert summary == table
    assert table.startswith("| Name ")
    assert "❌ em>=base-1 fails for bad one.json" in table
    assert not list(project.rglob("pwned"))
    made = {path.name for path in project.iterdir()}
    assert made == {"answers", "dev.json", "bin", "runner"}  # the report is elsewhere


def test_nothing_measured(project: Path) -> None:
    """The verdict is not that a gate failed; the summary says so."""
    hostile = '$(touch pwned) `touch pwned` "; touch pwned; ' + "'"
    runner = Runner.prepared(project, {"checkpoints": f"{hostile}\n--help", "data": hostile, "options": "--nonsense=1"})
    done = runner.run(MEASURE)
    assert done.returncode == 0, done.stderr
    assert "no such option --nonsense" in done.stderr
    assert (runner.output("passed"), runner.output("exit-code")) == ("", "2")
    assert runner.run(VERDICT).returncode == 2
    assert runner.written("GITHUB_STEP_SUMMARY").startswith("compresskit measured nothing (exit code 2)")
    assert not list(project.rglob("pwned"))


# Keeps what it is asked for, and knows of one comment where KNOWN is set.
GH = """#!/bin/sh
printf '%s\\n' "$@" "mark: $MARK" "token: $GH_TOKEN" >> "$ASKED"
case "$*" in *--paginate*) printf '%s' "$KNOWN" ;; esac
"""


@pytest.mark.parametrize(("known", "wanted"), [("", "POST"), ("17", "PATCH")])
def test_one_comment_for_each_name(known: str, wanted: str, tmp_path: Path) -> None:
    runner = Runner.prepared(tmp_path, {"artifact": 'a "b" -->'}, ASKED=str(tmp_path / "asked"), KNOWN=known)
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    (tmp_path / "eval.md").write_text("| Name |\n$(touch pwned)\n" + "é" * 70_000)
    runner.context |= {
        "github.token": "given",
        "github.repository": "owner/name",
        "github.event.pull_request.number": "3",
        "steps.measure.outputs.folder": str(tmp_path),
    }
    done = runner.run(COMMENT)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text()
    mark = "<!-- compresskit: a--b----- -->"
    assert f"mark: {mark}\ntoken: given\n" in asked
    place = f"repos/owner/name/issues/comments/{known}" if known else "repos/owner/name/issues/3/comments"
    assert f"--method\n{wanted}\n{place}\n--field\nbody=@{tmp_path}/comment.md\n" in asked
    body = (tmp_path / "comment.md").read_text()
    assert body.startswith(f"{mark}\n| Name |\n$(touch pwned)\né")
    assert 59_000 < len(body) < 65_536  # what GitHub takes
    assert not list(tmp_path.rglob("pwned"))


def test_nothing_that_is_given_is_a_part_of_a_script() -> None:
    for step in definition()["runs"]["steps"]:
        assert not EXPRESSION.search(step.get("run", "")), step["name"]


def test_every_expression_names_an_input_or_what_a_step_leaves() -> None:
    inputs, left = definition()["inputs"], {"folder", "exit-code", "passed"}
    text = (ROOT / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(inputs)
    assert set(re.findall(r"steps\.measure\.outputs\.([\w-]+)", text)) == left


@pytest.mark.parametrize("path", ["action.yml", "examples/ci/github.yml"])
def test_other_actions_are_named_by_their_commit(path: str) -> None:
    used = re.findall(r"^ +(?:- )?uses: (.*)$", (ROOT / path).read_text(), re.MULTILINE)
    pinned = [each for each in used if re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)]
    own = [each for each in used if each.startswith("OWNER/compresskit@COMMIT")]
    assert used
    assert sorted(used) == sorted(pinned + own)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck(tmp_path: Path) -> None:
    for number, step in enumerate(definition()["runs"]["steps"]):
        if "run" in step:
            script = tmp_path / f"{number}.sh"
            script.write_text(f"#!/bin/bash\nset -eo pipefail\n{step['run']}")
            done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="needs actionlint")
def test_actionlint(tmp_path: Path) -> None:
    """It reads workflows alone: the action's steps are put into one that has the same inputs."""
    action = definition()
    inputs = {name: {"type": "string", **each} for name, each in action["inputs"].items()}
    jobs = {"eval": {"runs-on": "ubuntu-latest", "steps": action["runs"]["steps"]}}
    workflow = {"name": "steps", "on": {"workflow_call": {"inputs": inputs}}, "jobs": jobs}
    (tmp_path / "steps.yml").write_text(yaml.safe_dump(workflow, sort_keys=False, width=1000))
    for path in (tmp_path / "steps.yml", ROOT / "examples/ci/github.yml"):
        done = subprocess.run(["actionlint", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
