"""Functions that make checkpoints do what their verbs do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import distributed

import compresskit as ck
from compresskit import console
from compresskit.api import making
from compresskit.checkpoint.manifest import read_manifest
from compresskit.cli.app import main
from compresskit.training import session
from tests.api.conftest import SHORT, Made


def test_a_call_is_its_command(made: Made, tmp_path: Path) -> None:
    """The same weights, bit for bit, and the same configuration in the manifest."""
    words = ["-q", "prune", str(made.dense.path), "--sparsity", "0.5", "--distill", "--teacher", str(made.dense.path)]
    words += ["--train-data", str(made.train_data), "-o", str(tmp_path / "half")]
    words += [word for name, value in SHORT.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(words) == 0
    console.configure()
    known, manifest = made.half.manifest, read_manifest(tmp_path / "half")
    assert known is not None
    assert manifest is not None
    assert manifest.steps[-1].config == known.steps[-1].config
    assert [each.method for each in manifest.steps] == [each.method for each in known.steps]
    one, other = (load_file(folder / "mask.safetensors") for folder in (tmp_path / "half", made.half.path))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_plan_writes_nothing(made: Made, tmp_path: Path) -> None:
    (plan,) = ck.plan("prune", made.dense, output=tmp_path / "x", train_data=made.train_data, **SHORT)
    assert plan.steps == SHORT["max_steps"]
    assert ck.plan("quantize", made.dense, output=tmp_path / "y").target == tmp_path / "y"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ck.UsageError, match=r"there is no ck\.prun to plan; did you mean prune"):
        ck.plan("prun", made.dense)  # type: ignore[call-overload]


def test_what_stands_in_the_way_is_told(made: Made) -> None:
    with pytest.raises(ck.UsageError, match="overwrite"):
        ck.quantize(made.dense, output=made.half.path)
    with pytest.raises(ck.UsageError, match="which is read"):
        ck.merge(made.half, output=made.dense.path)
    with pytest.raises(ck.UsageError, match="temperature"):
        ck.prune(made.dense, temperature=2.0)
    with pytest.raises(ck.InputError, match="is of kind mask"):
        ck.lora(made.half, output="never", train_data=made.train_data, **SHORT)


def test_a_mask_is_merged(made: Made, tmp_path: Path) -> None:
    merged = ck.merge(made.half, output=tmp_path / "merged")
    assert (merged.kind, merged.family) == ("full", "encoder")
    assert [step.method for step in merged.steps] == ["train", "prune/smp", "merge"]
    asked = ("Who lives in Rome?", "Anna lives in Rome.")
    one, other = (each.predict(*asked, null_threshold=1e9) for each in (merged, made.half))
    assert one.text == other.text
    assert one.score == pytest.approx(other.score, abs=1e-4)


@pytest.mark.parametrize("is_callers", [False, True])
def test_a_group_of_processes_that_the_caller_made_stays(is_callers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(distributed, "is_initialized", lambda: is_callers)
    monkeypatch.setattr(session, "end_processes", lambda: ended.append(True))
    with making._own_processes():
        assert ended == []
    assert bool(ended) is not is_callers
