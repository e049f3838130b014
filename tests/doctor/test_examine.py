"""The examination as a whole, on outcomes that are given: order, states, words, JSON."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compresskit.doctor import examine as module
from compresskit.doctor import words
from compresskit.doctor.child import PATHS
from compresskit.doctor.examine import Listener, Report, examine
from compresskit.doctor.host import host
from compresskit.doctor.processes import Outcome
from compresskit.packages import PACKAGES

GPU = {"name": "H200", "memory_bytes": 150 * 10**9, "free_bytes": 149 * 10**9, "compute_capability": "9.0"}
WAYS = {"paths": [{"what": "training", "how": "on cpu, in float32"}]}
FACTS: dict[str, dict[str, Any]] = {"torch": {"cuda": None, "gpus": []}, PATHS: WAYS}
CHOSEN = tuple(each for each in PACKAGES if each.name in ("torch", "tokenizers", "onnxruntime", "mamba-ssm", "wandb"))


@dataclasses.dataclass
class Machine:
    """Versions of packages, and how their tries end; whatever is not named is well."""

    versions: dict[str, str | None]
    endings: dict[str, Outcome]

    def run(self, names: Sequence[str], folder: Path, at_once: int) -> Generator[Outcome, None, None]:
        for name in names:
            yield self.endings.get(name, Outcome("done", FACTS.get(name, {}), None, 0.5))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    versions = {"torch": "2.13.0", "tokenizers": "0.23.3", "onnxruntime": "1.31.1", "mamba-ssm": None, "wandb": None}
    made = Machine(versions, {})
    monkeypatch.setattr(module, "installed", lambda package: made.versions[package.name])
    monkeypatch.setattr(module, "outcomes", made.run)
    return made


def seen(machine: Machine) -> tuple[Report, list[str]]:
    lines: list[str] = []
    teller = words.Teller(lines.append)
    report = examine(teller, CHOSEN)
    teller.end(report)
    return report, lines


def states(report: Report) -> dict[str, str]:
    return {each.package.name: each.state for each in report.packages}


def test_a_machine_that_is_well(machine: Machine) -> None:
    report, lines = seen(machine)
    assert set(states(report).values()) == {"ok", "missing"}
    assert report.broken == []
    assert lines[-1] == "the core works"
    assert "  training           on cpu, in float32" in lines
    assert "  pip install wandb" in lines
    assert not any("mamba]" in line for line in lines), "of no use without a GPU"
    assert max(map(len, lines)) <= words.WIDTH


def test_a_version_that_loses_windows_is_broken_and_pip_avoids_it(machine: Machine) -> None:
    machine.versions["tokenizers"] = "0.23.2"
    machine.endings["tokenizers"] = Outcome("", {}, "MissingError: tokenizers 0.23.2 drops the windows", 1.0)
    report, lines = seen(machine)
    assert [each.package.name for each in report.broken] == ["tokenizers"]
    assert report.broken[0].command == "pip install 'tokenizers>=0.22,!=0.23.2,!=0.23.1'"
    assert any(line.startswith("  BROKEN   tokenizers         0.23.2") for line in lines)
    assert "to mend" in lines
    assert lines[-1] == "the core does not work: tokenizers"


def test_a_crash_of_what_is_optional_leaves_the_core_well(machine: Machine) -> None:
    machine.endings["onnxruntime"] = Outcome("", {}, "its process crashed (SIGSEGV)", 1.0)
    report, lines = seen(machine)
    assert states(report)["onnxruntime"] == "broken"
    assert report.broken == []
    assert "           its process crashed (SIGSEGV)" in lines
    assert "  pip install --force-reinstall --no-deps 'onnxruntime>=1.27,<2'" in lines


def test_what_another_package_is_to_blame_for_is_mended_by_that_one(machine: Machine) -> None:
    machine.endings["torch"] = Outcome("", {}, "ImportError: it does not load", 1.0, cause="torch")
    machine.endings["onnxruntime"] = Outcome("", {}, "ImportError: it does not load", 1.0, cause="torch")
    report, lines = seen(machine)
    mend = "pip install --force-reinstall --no-deps 'torch>=2.9,<3'"
    assert [line for line, those in report.commands if those[0].state == "broken"] == [mend]
    assert "           mends torch, onnxruntime" in lines


def test_a_module_that_is_missing_comes_with_what_needs_it(machine: Machine) -> None:
    machine.endings["onnxruntime"] = Outcome("", {}, "No module named 'flatbuffers'", 1.0, cause="flatbuffers")
    assert "  pip install 'onnxruntime>=1.27,<2'" in seen(machine)[1]


def test_a_version_that_works_and_is_not_asked_for(machine: Machine) -> None:
    machine.versions["torch"] = "2.5.0"
    report, lines = seen(machine)
    assert states(report)["torch"] == "untested"
    assert report.broken == []
    assert "           the project asks for >=2.9,<3" in lines


def test_what_cannot_be_tried_here_is_not_said_to_work(machine: Machine) -> None:
    machine.versions["mamba-ssm"] = "2.3.2"
    machine.endings["mamba-ssm"] = Outcome("there is no GPU", {}, None, 1.0, untried=True)
    report, lines = seen(machine)
    assert states(report)["mamba-ssm"] == "untried"
    assert "           there is no GPU" in lines


def test_a_machine_with_a_gpu_is_told_of_kernels(machine: Machine) -> None:
    machine.endings["torch"] = Outcome("done", {"cuda": "13.0", "gpus": [GPU]}, None, 1.0)
    _, lines = seen(machine)
    assert "  pip install --no-build-isolation 'compresskit[mamba]'" in lines
    assert "  GPU 0              H200, compute capability 9.0, 149 GB of 150 GB free" in lines


@pytest.mark.parametrize(("cuda", "why"), [(None, "this torch is for CPUs"), ("13.0", "the driver may be too old")])
def test_a_gpu_that_torch_cannot_use(
    cuda: str | None, why: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataclasses.replace(host(), gpus_seen=1)
    monkeypatch.setattr(module, "host", lambda: found)
    machine.endings["torch"] = Outcome("done", {"cuda": cuda, "gpus": []}, None, 1.0)
    assert why in " ".join(" ".join(seen(machine)[1]).split())


def test_torch_does_not_load(machine: Machine) -> None:
    crash = Outcome("", {}, "its process crashed (SIGILL)", 1.0)
    machine.endings |= {"torch": crash, PATHS: crash}
    report, lines = seen(machine)
    assert report.torch is None
    assert report.paths == (("all", "not to be told: its process crashed (SIGILL)"),)
    assert lines[-1] == "the core does not work: torch"


def strict(schema: Any) -> Any:
    """The schema, in which a key that it does not name is a fault."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema and "required" in schema else {}
    return {key: strict(value) for key, value in schema.items()} | closed


def test_the_json_holds_to_the_published_schema(machine: Machine) -> None:
    machine.endings["torch"] = Outcome("done", {"cuda": "13.0", "gpus": [GPU]}, None, 1.0)
    value = json.loads(examine(Listener(), CHOSEN).to_json())
    schema = json.loads(module.SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(strict(schema)).validate(value)
    assert (value["schema"], value["works"]) == ("compresskit.doctor/1", True)
    assert value["install"][0] == {
        "command": "pip install --no-build-isolation 'compresskit[mamba]'",
        "packages": ["mamba-ssm"],
    }


def test_findings_come_one_by_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    known: list[int] = []

    def run(names: Sequence[str], folder: Path, at_once: int) -> Generator[Outcome, None, None]:
        for outcome in Machine.run(machine, names, folder, at_once):
            known.append(len(lines))
            yield outcome

    monkeypatch.setattr(module, "outcomes", run)
    examine(words.Teller(lines.append), CHOSEN)
    assert known[0] > 6, "the machine is told before the first try"
    assert known == sorted(set(known))


def test_the_process_of_the_verb_imports_nothing_that_may_be_broken() -> None:
    code = (
        "import sys, compresskit.cli.doctor, compresskit.doctor.words, compresskit.doctor.host as h; h.host();"
        "print({'torch', 'numpy', 'transformers', 'tokenizers', 'pyarrow', 'pydantic', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
