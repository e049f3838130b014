"""What an interrupted run left is taken up only as it was written; else the line tells a mend that works."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from compresskit.checkpoint.store import read_json, write_json
from compresskit.errors import InputError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.run import plan, run
from compresskit.training import state
from compresskit.training.arguments import TrainingOptions
from tests.contract import makers

STATE = "state-00000002"


def job(root: Path, place: Path, *, resume: bool) -> Job:
    """Four steps with a state after the second, taught by another reader."""
    more: dict[str, Any] = {"batch_size": 4, "device": "cpu", "max_length": 48, "stride": 8, "max_steps": 3}
    more |= {"save_steps": 2, "lr": 1e-3, "train_data": str(root / "data.json"), "resume": resume}
    options = TrainingOptions(str(root / "encoder"), place / "out", **more)
    return Job("train", options, TrainConfig(), Distillation(distill=True, teacher=str(root / "encoder")))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its data, the checkpoint of a whole run, and what an interrupted one left."""
    folder = tmp_path_factory.mktemp("resume")
    makers.made("encoder", folder / "encoder")
    makers.data(folder / "data.json")
    (folder / "whole").mkdir()
    run(job(folder, folder / "whole", resume=False))

    def killed(staging: Path, final: Path) -> None:
        commit(staging, final)
        raise KeyboardInterrupt

    commit, state.commit_state = state.commit_state, killed
    try:
        run(job(folder, folder, resume=False))
    except KeyboardInterrupt:
        pass
    finally:
        state.commit_state = commit
    assert (folder / "out.partial" / STATE).is_dir()
    return folder


@pytest.fixture
def work(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "out.partial", tmp_path / "out.partial"))


def without_lr(path: Path) -> None:
    value = read_json(path)
    for group in value["param_groups"]:
        del group["lr"]
    write_json(path, value)


def with_nan(path: Path) -> None:
    tensors = load_file(path)
    tensors["0.exp_avg"] = torch.full_like(tensors["0.exp_avg"], torch.nan)
    save_file(tensors, path)


def of_another_shape(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].numel())
    save_file({**tensors, name: tensors[name][:1].clone()}, path)


def without_an_item(path: Path) -> None:
    tensors = load_file(path)
    del tensors["numpy"]
    save_file(tensors, path, metadata={"rest": "{}"})


def altered(path: Path) -> None:
    bounds = np.fromfile(path, dtype=np.int64)
    bounds[1] = 1 << 40
    path.write_bytes(bounds.tobytes())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    (f"{STATE}/optimizer.json", without_lr),
    (f"{STATE}/optimizer.safetensors", with_nan),
    (f"{STATE}/parameters.safetensors", of_another_shape),
    (f"{STATE}/generators-0.safetensors", without_an_item),
    (f"{STATE}/trainer_state.json", empty),
    (f"{STATE}/seal.json", Path.unlink),
    ("features/ids.i32", empty),
    ("features/bounds.i64", altered),
    ("taught/teacher.rows", cut),
    ("taught/teacher.json", empty),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=[name for name, _ in DAMAGES])
def test_a_damaged_file(name: str, damage: Callable[[Path], object], root: Path, work: Path) -> None:
    damage(work / name)
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    for act in (plan, run):
        with pytest.raises(InputError, match=r"is not as the run wrote it; remove .* --overwrite") as caught:
            act(job(root, work.parent, resume=True))
        assert str(work / name) in str(caught.value)
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


LOG = [b"\xff", b"[" * 100_000, b'{"step": 1' + b"0" * 400 + b"}", b"[]", b'{"step": []}']


@pytest.mark.parametrize("names", [(STATE,), ("features", "taught")])
def test_the_mend_gives_what_a_whole_run_gives(names: Sequence[str], root: Path, work: Path) -> None:
    """Whatever stands in the log."""
    (work / "log.jsonl").write_bytes(b"\n".join(LOG))
    for name in names:
        (work / name / "seal.json").write_text("[]")
        with pytest.raises(InputError, match=f"remove {work / name} to go on"):
            run(job(root, work.parent, resume=True))
        shutil.rmtree(work / name)
    out = run(job(root, work.parent, resume=True))
    assert (out / "model.safetensors").read_bytes() == (root / "whole/out/model.safetensors").read_bytes()
    assert [line[:8] for line in (out / "log.jsonl").read_text().splitlines()] == ['{"step":']
    assert not work.exists()


@pytest.mark.parametrize("content", ["[]", "3", '"run"', "null"])
def test_a_job_that_does_not_tell_itself(content: str, root: Path, work: Path) -> None:
    (work / "run.json").write_text(content)
    for act in (plan, run):
        with pytest.raises(InputError, match=r"run\.json does not tell which run it is of; --overwrite starts anew"):
            act(job(root, work.parent, resume=True))
