"""Saved reports as one: names, the baseline, and what survives of the statistics."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compresskit.errors import InputError
from compresskit.evaluate.combine import combined, read_report
from compresskit.evaluate.row import Dataset, Flip, Gate, Report, Row

DATA = Dataset("dev.json", "aa", 100, 40)
FLIP = Flip("q1", "Who?", "Rome.", ("Rome",), "Rome", "", False)
DENSE = Row("dense", "runs/dense", "encoder", "train", True, em=70.0, f1=75.0, delta_em=0.0, delta_f1=0.0, sha256="d")
HALF = Row(
    "half",
    "runs/half",
    "encoder",
    "prune/smp",
    False,
    em=69.0,
    f1=74.5,
    delta_em=-1.0,
    delta_f1=-0.5,
    delta_em_ci95=(-2.0, 0.5),
    delta_f1_ci95=(-1.0, 0.1),
    p_value=0.25,
    questions_won=2,
    questions_lost=3,
    sha256="h",
    flips=(FLIP,),
)
CPU = Report("2026-01-01T00:00:00+00:00", {}, {"kind": "cpu"}, DATA, (DENSE, HALF))
# The same on another machine, with other timings and from another path of the data.
GPU = replace(
    CPU,
    device={"kind": "cuda"},
    dataset=replace(DATA, path="/data/dev.json"),
    rows=(replace(DENSE, latency_ms_p50=2.0), replace(HALF, name="tenth", sha256="t", em=65.0, delta_em=-5.0)),
    gates=(Gate("em>=base-1", "tenth", False, 65.0, 69.0),),
    passed=False,
)


def test_rows_of_several_machines_stand_in_one_table() -> None:
    report = combined([CPU, GPU], ["cpu.json", "out/gpu.json"])
    assert [row.name for row in report.rows] == ["dense", "half", "dense (gpu)", "tenth"]
    # The same checkpoint is the baseline on either machine, and none of the others' is gated by it.
    assert [row.baseline for row in report.rows] == [True, False, True, False]
    assert report.rows[1] == HALF
    # `tenth` was compared with the same checkpoint elsewhere: its statistics stand.
    assert report.rows[3] == GPU.rows[1]
    assert report.rows[2] == replace(GPU.rows[0], name="dense (gpu)")
    assert (report.gates, report.passed, report.dataset) == ((), True, DATA)


def test_the_same_row_twice_is_one() -> None:
    assert combined([CPU, CPU], ["a.json", "b.json"]).rows == CPU.rows
    assert [row.name for row in combined([CPU, GPU, GPU], ["a", "b", "c"]).rows][2:] == ["dense (b)", "tenth"]
    triple = combined([CPU, GPU, replace(GPU, rows=(replace(DENSE, latency_ms_p50=3.0),))], ["a", "b/gpu", "c/gpu"])
    assert [row.name for row in triple.rows][2:] == ["dense (gpu)", "tenth", "dense (gpu 2)"]


@pytest.mark.parametrize("kept", [(0, 1), (1, 0)])
def test_a_row_measured_once_and_kept_since_is_one(kept: tuple[int, int]) -> None:
    reports = [replace(CPU, rows=(DENSE, replace(HALF, kept=bool(each)))) for each in kept]
    assert combined(reports, ["a.json", "b.json"]).rows == CPU.rows


def test_what_computes_the_same_is_called_as_in_the_whole() -> None:
    """Another checkpoint of the same name in the first file is not what the second file's row computes the same as."""
    other = replace(DENSE, em=60.0, sha256="x")
    reports = [CPU, replace(CPU, rows=(other, replace(HALF, name="copy", same_as="dense")))]
    rows = combined(reports, ["a.json", "b.json"]).rows
    assert [(row.name, row.same_as) for row in rows[2:]] == [("dense (b)", None), ("copy", "dense (b)")]
    again = combined([CPU, replace(CPU, rows=(DENSE, replace(HALF, name="copy", same_as="dense")))], ["a", "b"])
    assert [(row.name, row.same_as) for row in again.rows[2:]] == [("copy", "dense")]


def test_what_runs_compute_the_same_as_is_called_as_in_the_whole() -> None:
    run = replace(HALF, name="mean-seed0", same_as="dense")
    mean = replace(HALF, name="mean", runs=(run, replace(run, name="mean-seed1", same_as="mean-seed0")))
    copy = replace(HALF, name="copy", same_as="mean-seed1")
    other = replace(CPU, rows=(replace(DENSE, em=60.0, sha256="x"), mean, copy))
    *_, whole, own = combined([CPU, other], ["a.json", "b.json"]).rows
    assert [run.same_as for run in whole.runs or ()] == ["dense (b)", "mean-seed0"]
    assert own.same_as == "mean-seed1"


@pytest.mark.parametrize("name", ["half", "runs/half"])
def test_another_baseline_leaves_plain_differences(name: str) -> None:
    dense, half = combined([CPU], ["cpu.json"], baseline=name).rows
    assert (half.baseline, half.delta_em, half.delta_em_ci95, half.flips) == (True, 0.0, None, ())
    assert (dense.baseline, dense.delta_em, dense.delta_f1) == (False, 1.0, 0.5)
    assert (dense.delta_em_ci95, dense.p_value, dense.questions_won) == (None, None, None)


def test_another_checkpoint_as_baseline_of_the_second_file() -> None:
    """Its rows were compared with something else: what was paired with that goes."""
    other = replace(GPU, rows=(replace(DENSE, sha256="x", em=60.0, name="old"), GPU.rows[1]))
    tenth = combined([CPU, other], ["a.json", "b.json"]).rows[3]
    assert (tenth.name, tenth.delta_em, tenth.delta_em_ci95, tenth.flips) == ("tenth", -5.0, None, ())


def test_without_a_baseline_rows_stay_as_they_are() -> None:
    alone = replace(CPU, rows=(HALF,))
    assert combined([alone], ["a.json"]).rows == (HALF,)


def test_what_cannot_be_combined() -> None:
    other = replace(GPU, dataset=replace(DATA, sha256="bb"))
    with pytest.raises(InputError, match=r"b\.json: stands on 100 questions of dev\.json \(sha256 bb\)"):
        combined([CPU, other], ["a.json", "b.json"])
    sampled = replace(GPU, dataset=replace(DATA, questions=50, sampled_from=100, seed=1))
    with pytest.raises(InputError, match="same questions"):
        combined([CPU, sampled], ["a.json", "b.json"])
    with pytest.raises(InputError, match="no row is called 'nobody'; take one of dense, half"):
        combined([CPU], ["a.json"], baseline="nobody")


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "eval.json"
    path.write_text(GPU.to_json())
    assert read_report(path) == GPU
    path.write_bytes(b"\xff\xfe")
    for broken in (path, tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match=r"cannot be read|does not exist"):
            read_report(broken)
    path.write_text(json.dumps({"schema": "other"}))
    with pytest.raises(InputError, match=r"eval\.json: has no schema"):
        read_report(path)
