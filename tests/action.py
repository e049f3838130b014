"""The action at the root, run as a runner of GitHub Actions would: its steps of shell, with the files they fill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


def definition() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return loaded


@dataclass
class Runner:
    """A job in `folder`; `context` is what expressions name, such as `github.token`."""

    folder: Path
    context: dict[str, str]
    environment: dict[str, str]
    steps: list[dict[str, Any]] = field(default_factory=lambda: definition()["runs"]["steps"])

    @classmethod
    def prepared(cls, folder: Path, inputs: Mapping[str, str], **environment: str) -> Runner:
        """A runner with `compresskit` on its path, for a use of the action with some of its inputs."""
        known = {name: str(each["default"]) for name, each in definition()["inputs"].items()}
        assert set(inputs) <= set(known)
        for name in ("bin", "runner"):
            (folder / name).mkdir(exist_ok=True)
        command = folder / "bin" / "compresskit"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m compresskit "$@"\n')
        command.chmod(0o755)
        given = {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(folder / "runner"),
            "GITHUB_STEP_SUMMARY": str(folder / "runner" / "summary.md"),
            "GITHUB_OUTPUT": str(folder / "runner" / "output"),
        }
        context = {f"inputs.{name}": value for name, value in {**known, **inputs}.items()}
        return cls(folder, context, {**os.environ, **given, **environment})

    def step(self, name: str) -> dict[str, Any]:
        (found,) = [step for step in self.steps if step["name"] == name]
        return found

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """A step of shell with the command that GitHub documents for `shell: bash`; its outputs join the context."""
        step = self.step(name)
        assert step["shell"] == "bash"
        environment = {key: self.filled(value) for key, value in step.get("env", {}).items()}
        script = self.folder / "runner" / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder / self.filled(step.get("working-directory", ".")),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        for line in self.written("GITHUB_OUTPUT").splitlines():
            key, _, value = line.partition("=")
            self.context[f"steps.{step.get('id')}.outputs.{key}"] = value
        return done

    def filled(self, text: str) -> str:
        return EXPRESSION.sub(lambda found: self.context[found.group(1)], text)

    def output(self, name: str) -> str:
        """An output of the action."""
        return self.filled(definition()["outputs"][name]["value"])

    def written(self, variable: str) -> str:
        path = Path(self.environment[variable])
        return path.read_text() if path.exists() else ""
