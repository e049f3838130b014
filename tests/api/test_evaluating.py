"""Checkpoints measured by a call."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import compresskit as ck
from tests.api.conftest import MEASURED, Made

pytestmark = pytest.mark.usefixtures("measured_here")


def test_gates_that_fail_raise_nothing(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    report = ck.evaluate(
        [str(made.dense.path), made.half],
        data=made.eval_data,
        baseline=made.dense,
        gates=["size<=2x", "em>=101"],
        allow_weak_baseline=True,
        slices="answerable",
        **MEASURED,
    )
    assert [(row.name, row.baseline) for row in report] == [("dense", True), ("half", False)]
    assert [(gate.rule, gate.passed) for gate in report.gates] == [("size<=2x", True), ("em>=101", False)]
    assert not report.passed
    assert "answerable" in str(report)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ck.GateFailed, match="em>=101 fails for half"):
        report.check()


def test_a_checkpoint_measures_itself(made: Made) -> None:
    report = made.half.evaluate(made.eval_data, **MEASURED)
    assert [(row.name, row.method, row.baseline) for row in report] == [("half", "prune/smp", False)]
    assert report[0].em == ck.evaluate(made.half, data=made.eval_data, **MEASURED)[0].em is not None


def test_runs_are_one_row(made: Made) -> None:
    report = ck.evaluate(runs={"both": [made.dense, made.half.path]}, data=made.eval_data, **MEASURED)
    assert [row.name for row in report] == ["both"]
    frame = report.to_pandas()
    assert report[0].sd is not None
    assert frame.loc["both", "em_sd"] == report[0].sd["em"] >= 0
    assert frame.loc["both", "disk_bytes"] == pytest.approx((made.dense.bytes + made.half.bytes) / 2, rel=0.01)


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (["runs/a", "runs/b"], "^runs is list; give a dict such as {'dense': "),
        ("dense=runs/a,runs/b", "^runs is str; give a dict"),
        ({"dense": 3}, "^the runs of dense are int; give a list of checkpoints"),
        ({"dense": "runs/a"}, "names one checkpoint; name two at least"),
    ],
)
def test_runs_of_another_form(runs: Any, told: str) -> None:
    with pytest.raises(ck.UsageError, match=told):
        ck.evaluate(runs=runs, data="demo")


def test_what_cannot_be_scored_is_a_row_beside_others(made: Made, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(made.dense.path, broken)
    (broken / "model.safetensors").write_bytes(b"nothing")
    report = ck.evaluate([made.dense, broken], data=made.eval_data, **MEASURED)
    assert report["dense"].error is None
    assert "model.safetensors" in str(report["broken"].error)
    with pytest.raises(ck.InputError, match=r"model\.safetensors"):
        ck.evaluate(broken, data=made.eval_data, **MEASURED)


def test_what_cannot_be(made: Made) -> None:
    with pytest.raises(ck.UsageError, match="compares with a baseline"):
        ck.evaluate(made.dense, data=made.eval_data, gates="em>=base-1")
    with pytest.raises(ck.KeywordError, match=r"ck\.evaluate takes no keyword gate; did you mean gates"):
        ck.evaluate(made.dense, gate="em>=1")  # type: ignore[call-arg]
    with pytest.raises(ck.UsageError, match="a checkpoint is int"):
        ck.evaluate([7], data=made.eval_data)  # type: ignore[list-item]


@pytest.mark.slow
def test_a_script_needs_no_main(made: Made, tmp_path: Path) -> None:
    """Its workers are processes of their own, which import nothing of the script."""
    script = tmp_path / "script.py"
    script.write_text(
        "import compresskit as ck\n"
        "print('once')\n"
        f"report = ck.evaluate({str(made.dense.path)!r}, data={str(made.eval_data)!r}, **{MEASURED!r}, cache=False)\n"
        "print(report[0].em)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "once"
    assert float(second) == ck.evaluate(made.dense, data=made.eval_data, **MEASURED)[0].em
    assert done.stderr == ""
