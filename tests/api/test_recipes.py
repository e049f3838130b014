"""A recipe run by a call."""

from __future__ import annotations

from pathlib import Path

import pytest

import compresskit as ck
from tests.api.conftest import Made

RECIPE = """
steps:
  - name: small
    base: {dense}
    method: quantize
eval:
  data: {data}
  baseline: {dense}
  checkpoints: [{dense}, small]
  gates: ["size<=0.001x"]
  allow-weak-baseline: true
  latency-questions: 0
  max-length: 128
  stride: 32
  device: cpu
"""


@pytest.mark.slow
@pytest.mark.usefixtures("measured_here")
def test_a_recipe_leaves_checkpoints_and_a_report(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(RECIPE.format(dense=made.dense.path, data=made.eval_data))
    run = ck.run_recipe(file, {"small.activations": "none"}, output=tmp_path / "runs", jobs=2)
    small = run.checkpoints["small"]
    assert (small.path, small.kind) == (tmp_path / "runs" / "small", "quantized")
    assert small.steps[-1].config["activations"] == "none"
    assert run.report is not None
    assert [row.name for row in run.report] == ["dense", "small"]
    assert not run.report.passed
    assert ck.read_report(tmp_path / "runs" / "eval.json") == run.report
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ck.UsageError, match="jobs 0 is not at least 1"):
        ck.run_recipe(file, output=tmp_path / "runs", jobs=0)
    with pytest.raises(ck.UsageError, match="activation"):
        ck.run_recipe(file, ["small.activation=none"], output=tmp_path / "other")
