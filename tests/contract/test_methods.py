"""What every method must fulfil with every family. A new one is tested by being registered (see makers.py)."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file

from compresskit.checkpoint.manifest import FILE, Manifest, Step, read_manifest
from compresskit.errors import InputError
from compresskit.methods.described import job_of
from compresskit.methods.job import Job
from compresskit.methods.method import Method
from compresskit.methods.registry import METHODS, method_named
from compresskit.methods.run import completed, describe, plan, run
from compresskit.models.answering import AnswerOptions
from compresskit.models.families import FAMILIES
from compresskit.models.kind import Kind
from compresskit.models.kinds import KINDS, kind_of
from compresskit.models.registry import load
from compresskit.models.source import Source
from compresskit.training import state
from compresskit.training.arguments import RunOptions, TrainingOptions
from tests import tiny
from tests.cli.conftest import tree
from tests.contract import makers, twice

STEPS, SAVED = 5, 2


@dataclass(frozen=True)
class Case:
    """A method on a checkpoint of a kind that it accepts: what stands in `root`, and where the run has left `out`."""

    method: Method
    kind: str
    family: str
    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def config(self) -> Any:
        return self.method.Config(**makers.CONFIGS.get(self.method.name, {}))

    def job(self, output: Path, source: Path | None = None) -> Job:
        model = str(source or self.root / "source")
        return Job(self.method.name, self.options(model, output), self.config)

    def options(self, model: str, output: Path) -> RunOptions:
        if not self.method.trains:
            return RunOptions(model, output)
        data = str(self.root / "data.json")
        short = TrainingOptions(model, output, train_data=data, max_steps=STEPS, save_steps=SAVED, seed=3, device="cpu")
        return dataclasses.replace(short, batch_size=4, max_length=48, stride=8)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((method, kind, family.name), id=f"{method.name}-{kind}-{family.name}")
        for method in map(method_named, METHODS)
        for kind in sorted(method.accepts)
        for family in FAMILIES
        if makers.is_possible(method.name, kind, family.name)
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A finished run."""
    method, kind, family = request.param
    root = tmp_path_factory.mktemp("case")
    makers.of_kind(kind, makers.made(family, root / "base"), root / "source")
    makers.data(root / "data.json")
    made = Case(method, kind, family, root)
    run(made.job(made.out))
    return made


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {
        f"{file.name}/{name}": tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    for file in folder.glob("*.onnx"):
        for each in onnx.load(file).graph.initializer:
            found[f"{file.name}/{each.name}"] = torch.from_numpy(numpy_helper.to_array(each).copy())
    return found


def assert_same(first: Path, second: Path) -> None:
    one, two = tensors(first), tensors(second)
    assert one
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def last_step(folder: Path) -> Step:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.steps[-1]


def test_a_plan_writes_nothing_and_tells_what_the_run_does(case: Case) -> None:
    if not case.method.trains:
        pytest.skip("it learns nothing, so there is nothing to plan")
    before = tree(case.root)
    (planned,) = plan(case.job(case.root / "planned"))
    assert tree(case.root) == before
    step = last_step(case.out)
    assert step.data is not None
    assert planned.trainable == step.metrics["params_trainable"] > 0
    assert planned.steps == step.metrics["steps"] == STEPS
    assert planned.questions == step.data.questions == 20
    assert planned.checkpoint_bytes > 0
    assert planned.memory.peak >= planned.memory.weights + planned.memory.activations > planned.memory.weights > 0


def test_it_leaves_a_checkpoint_of_its_kind_and_nothing_else(case: Case) -> None:
    source = Source("out", case.out)
    assert kind_of(source).name == case.method.leaves(case.config)
    assert {path.name for path in case.root.iterdir()} <= {"base", "source", "data.json", "out"}
    assert not [path for path in case.out.iterdir() if path.name.startswith(".")]
    assert ((case.out / "log.jsonl").exists()) == case.method.trains


def test_its_manifest_tells_how_it_came_to_be(case: Case) -> None:
    manifest = read_manifest(case.out)
    assert manifest is not None
    assert manifest.to_dict() == json.loads((case.out / FILE).read_text())
    assert (manifest.kind, manifest.family) == (case.method.leaves(case.config), case.family)
    job = completed(case.job(case.out))
    assert manifest.method == case.method.title(job.config)
    assert manifest.steps[-1].config == json.loads(json.dumps(describe(job)))
    assert manifest.base is not None
    assert (case.out / manifest.base.ref).resolve() == case.root / "source"
    assert manifest.files is not None
    left = {path.name: path.stat().st_size for path in case.out.iterdir() if path.name != FILE}
    assert {name: each.bytes for name, each in manifest.files.items()} == left


def test_it_opens_and_answers(case: Case) -> None:
    loaded = load(str(case.out), device="cpu")
    assert not loaded.missing_head
    questions = tiny.examples(2)
    found = loaded.task.answer(loaded, questions, AnswerOptions(48, 8))
    assert [each.id for each in found] == [question.id for question in questions]
    if case.method.leaves(case.config) == "full":
        theirs: Any = type(loaded.model)
        opened = theirs.from_pretrained(case.out).state_dict()
        ours: Any = loaded.model
        assert all(torch.equal(tensor, opened[name]) for name, tensor in ours.state_dict().items())


def test_a_run_that_was_killed_goes_on(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first state; what has no states leaves nothing. Nothing carries the final name meanwhile."""
    commit, output = state.commit_state, tmp_path / "killed"

    def killed(*arguments: Any, **_: Any) -> None:
        if case.method.trains:
            commit(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(state, "commit_state", killed)
        patched.setattr(Manifest, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run(case.job(output))
    assert [path.name for path in tmp_path.iterdir()] == (["killed.partial"] if case.method.trains else [])
    assert len([*tmp_path.glob(f"killed.partial/state-{SAVED:08d}")]) == case.method.trains
    if not case.method.trains:
        return
    job = case.job(output)
    run(dataclasses.replace(job, options=dataclasses.replace(job.training, resume=True)))
    assert_same(case.out, output)
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]


def refused(method: Method) -> Iterator[Kind]:
    return (kind for kind in KINDS if kind.name not in method.accepts)


def test_it_refuses_other_kinds_and_names_the_mend(case: Case, tmp_path: Path) -> None:
    for kind in refused(case.method):
        folder = Path(shutil.copytree(case.root / "base", tmp_path / kind.name))
        Manifest(case.family, kind.name, None, []).write(folder)
        before = tree(tmp_path)
        with pytest.raises(InputError) as caught:
            run(case.job(tmp_path / "out", folder))
        assert caught.value.exit_code == 3
        assert str(caught.value).endswith(kind.instead.format(ref=folder))
        assert tree(tmp_path) == before


def test_the_job_in_its_manifest_made_again_gives_the_same_bytes(case: Case, tmp_path: Path) -> None:
    """So a seed repeats."""
    run(job_of(last_step(case.out), tmp_path / "again"))
    assert twice.unlike(case.out, tmp_path / "again") == []
