"""What stands in .github and CITATION.cff: it can be read, what it names is there, and no action can move."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".github"
WORKFLOWS = sorted(PLACE.glob("workflows/*.yml"))
FORMS = [path for path in sorted(PLACE.glob("ISSUE_TEMPLATE/*.yml")) if path.name != "config.yml"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ITEMS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def name(path: Path) -> str:
    return path.name


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs(workflow: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(workflow)["jobs"]
    return found


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(workflow).values():
        yield from job["steps"]


def test_all_files_are_yaml_and_none_is_forgotten() -> None:
    files = [path for path in PLACE.rglob("*.yml") if read(path)]
    assert len(files) == len(WORKFLOWS) + len(FORMS) + 2  # dependabot.yml and config.yml
    assert WORKFLOWS
    assert FORMS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_actions_are_named_by_their_commit(workflow: Path) -> None:
    used = re.findall(r"uses: *(.*)$", workflow.read_text(), re.MULTILINE)
    assert used
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


def test_one_action_is_named_by_one_commit() -> None:
    """In every place: otherwise one of them is an old one."""
    places = [*WORKFLOWS, ROOT / "action.yml", ROOT / "examples" / "ci" / "github.yml"]
    used = {line for path in places for line in re.findall(r"uses: *(\S+@[0-9a-f]{40})", path.read_text())}
    assert len({each.partition("@")[0] for each in used}) == len(used), sorted(used)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_what_a_workflow_runs_is_there(workflow: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        for line in step.get("run", "").splitlines():
            words = shlex.split(line)
            if words[0] == "make":
                assert set(words[1:]) <= targets, line
            elif "/" in words[0]:
                assert os.access(ROOT / words[0], os.X_OK), line
            else:
                assert words[0] == "test", f"{line}: what is more than a word belongs into a script"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_a_workflow_may_do_no_more_than_it_needs(workflow: Path) -> None:
    assert read(workflow)["permissions"] == {"contents": "read"}
    assert read(workflow)["concurrency"]
    for label, job in jobs(workflow).items():
        assert job["timeout-minutes"] <= 60, label
        assert job.get("permissions") in (None, {"id-token": "write"}), label
        assert "${{" not in "".join(step.get("run", "") for step in job["steps"]), (
            "what is given is no part of a script"
        )
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, label


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_torch_comes_without_cuda(workflow: Path) -> None:
    """`.ci/package` makes two environments, and a runner has 14 GB of disk."""
    assert read(workflow)["env"] == {"PIP_EXTRA_INDEX_URL": "https://download.pytorch.org/whl/cpu"}


def test_only_the_environment_of_releases_may_publish() -> None:
    release = jobs(PLACE / "workflows" / "release.yml")
    assert [label for label, job in release.items() if "permissions" in job] == ["publish"]
    publish = release["publish"]
    assert (publish["environment"]["name"], publish["needs"]) == ("pypi", "build")
    assert not any("run" in step or "password" in step.get("with", {}) for step in publish["steps"])
    # True is YAML 1.1's reading of the key `on`.
    assert list(read(PLACE / "workflows" / "release.yml")[True]) == ["push"]
    assert list(read(PLACE / "workflows" / "release.yml")[True]["push"]) == ["tags"]


def test_ci_runs_every_python_that_is_named() -> None:
    named = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    matrix = jobs(PLACE / "workflows" / "ci.yml")["test"]["strategy"]["matrix"]
    assert set(matrix["python"]) == named
    systems = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Operating System" in text}
    assert systems == {"Linux", "MacOS"}
    ran = {*matrix["os"], *(each["os"] for each in matrix["include"])}
    assert {each.partition("-")[0] for each in ran} == {"ubuntu", "macos"}


@pytest.mark.parametrize("form", FORMS, ids=name)
def test_a_form_is_one_that_github_shows(form: Path) -> None:
    """https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests"""
    found = read(form)
    assert set(found) <= {"name", "description", "title", "labels", "assignees", "projects", "type", "body"}
    assert found["name"]
    assert found["description"]
    ids = [item["id"] for item in found["body"] if item["type"] != "markdown"]
    assert ids
    assert len(set(ids)) == len(ids)
    for item in found["body"]:
        assert item["type"] in ITEMS
        assert set(item) <= {"type", "id", "attributes", "validations"}
        assert item["attributes"].get("value" if item["type"] == "markdown" else "label")


def test_who_reports_a_fault_is_asked_for_the_doctor() -> None:
    asked = {item.get("id"): item for item in read(PLACE / "ISSUE_TEMPLATE" / "bug.yml")["body"]}
    assert "compresskit doctor" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"]


def test_dependabot_looks_at_what_is_there() -> None:
    found = read(PLACE / "dependabot.yml")
    assert found["version"] == 2
    assert [each["package-ecosystem"] for each in found["updates"]] == ["github-actions", "pip"]
    assert all(each["directory"] == "/" for each in found["updates"])


def test_the_citation_says_what_the_project_says() -> None:
    """Its keys are those of the Citation File Format 1.2.0; a version would be that of an old tag."""
    found = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(found), "what the format asks for"
    assert (found["cff-version"], found["type"]) == ("1.2.0", "software")
    assert (found["title"], found["abstract"]) == (PROJECT["name"], PROJECT["description"])
    assert (found["license"], found["keywords"]) == (PROJECT["license"], PROJECT["keywords"])
    assert all(each.get("name") for each in found["authors"])
    assert "version" in PROJECT["dynamic"]
    assert "version" not in found


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=name)
def test_scripts_are_shell(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.access(script, os.X_OK)
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="needs actionlint")
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_actionlint(workflow: Path) -> None:
    done = subprocess.run(["actionlint", str(workflow)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
