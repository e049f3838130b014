"""A checkpoint made again: what is found, refused, resumed, compared, and told."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compresskit import console
from compresskit.checkpoint.manifest import FILE, read_manifest
from compresskit.checkpoint.store import sha256_weights
from compresskit.cli.app import main
from compresskit.errors import CompresskitError, InputError, MissingError, UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.recipe.replay import prepared
from compresskit.recipe.replay_options import ReplayOptions
from compresskit.training import state
from compresskit.training.arguments import TrainingOptions
from tests.contract import makers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense reader that was taught by the model that it came from, and an int8 of it."""
    folder = tmp_path_factory.mktemp("replay")
    makers.made("encoder", folder / "model")
    makers.data(folder / "data.json")
    more: dict[str, Any] = {"batch_size": 4, "device": "cpu", "max_length": 48, "stride": 8, "max_steps": 3}
    options = TrainingOptions(str(folder / "model"), folder / "dense", train_data=str(folder / "data.json"), **more)
    options = replace(options, save_steps=1)
    run(Job("train", options, TrainConfig(), Distillation(distill=True, teacher=str(folder / "model"))))
    run(Job("quantize", QuantizeOptions(str(folder / "dense"), folder / "int8"), QuantizeConfig()))
    return folder


@pytest.fixture
def place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all of it, whose manifests name the places of the first one, and where these are gone."""
    folder = Path(shutil.copytree(root, tmp_path / "moved"))
    monkeypatch.chdir(folder)
    for name in ("dense", "int8"):
        changed = (folder / name / FILE).read_text().replace(str(root), "/gone")
        (folder / name / FILE).write_text(changed)
    return folder


def test_a_checkpoint_whose_base_lies_beside_it(place: Path) -> None:
    """As it was named then, or as it is seen from the checkpoint's folder."""
    replay = prepared(ReplayOptions("int8"))
    assert (replay.output, replay.makings[0].job.options.model) == (Path("runs/int8-replay"), "dense")
    likeness = replay.run()
    assert (likeness.verdict, likeness.told) == ("same", "the same, bit for bit: 53 tensors")
    assert (likeness.settings, likeness.versions, likeness.choices, likeness.inputs) == ("", {}, {}, {})
    assert {file.name for file in likeness.files} == {path.name for path in Path("int8").iterdir()} - {FILE}
    assert all(file.is_same for file in likeness.files)


def test_everything_that_moved_is_given(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a run that was interrupted goes on; then all steps of another checkpoint, one after another."""
    shutil.move("model", "first")
    given: dict[str, Any] = {"train_data": ("data.json",), "teacher": "first", "base": "first"}
    interrupt = pytest.MonkeyPatch()

    def killed(*arguments: Any) -> None:
        commit(*arguments)
        raise KeyboardInterrupt

    commit = state.commit_state
    with interrupt.context() as patched:
        patched.setattr(state, "commit_state", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared(ReplayOptions("dense", Path("again-step1"), **given)).run()
    with pytest.raises(UsageError, match="--resume goes on with it"):
        prepared(ReplayOptions("dense", Path("again-step1"), **given)).run()
    likeness = prepared(ReplayOptions("dense", Path("again-step1"), resume=True, **given)).run()
    assert likeness.verdict == "same"
    then, now = likeness.metrics["train_loss"]
    assert then == now

    with pytest.raises(InputError, match=r"int8: unknown model|int8: there is no folder /gone/model"):
        prepared(ReplayOptions("int8", Path("again"), all=True, **{**given, "base": None}))
    whole = prepared(ReplayOptions("int8", Path("again"), all=True, resume=True, **given))
    assert whole.run().verdict == "same"
    told = capsys.readouterr().err
    assert "again-step1 is complete already" in told
    assert "step 2 of 2: quantize/int8 of again-step1, to again" in told
    made = read_manifest(Path("again"))
    assert made is not None
    assert [step.method for step in made.steps] == ["train", "quantize/int8"]
    stamp = Path("again/model.safetensors").stat().st_mtime_ns
    prepared(ReplayOptions("int8", Path("again"), all=True, resume=True, **given)).run()
    assert Path("again/model.safetensors").stat().st_mtime_ns == stamp
    assert "again is complete already" in capsys.readouterr().err


def changed_data() -> None:
    Path("data.json").write_text(Path("data.json").read_text() + "\n")


def changed_base() -> None:
    tensors = load_file("dense/model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, "dense/model.safetensors", {"format": "pt"})


def no_history() -> None:
    shutil.rmtree("int8")
    shutil.copytree("model", "int8")


def another_method() -> None:
    Path("int8", FILE).write_text(Path("int8", FILE).read_text().replace("quantize/int8", "shrink/int8"))


def no_base() -> None:
    shutil.rmtree("dense")


WRONG: list[tuple[Callable[[], None], ReplayOptions, int, str]] = [
    (no_base, ReplayOptions("int8"), 3, "int8: there is no dense, which it was made from; give it as --base PATH, or"),
    (
        changed_base,
        ReplayOptions("int8"),
        3,
        "int8: dense has weights sha256 CHANGED, and it was made from DENSE",
    ),
    (
        no_base,
        ReplayOptions("int8", base="model"),
        3,
        "--base model has weights sha256 MODEL, and it was made from",
    ),
    (no_history, ReplayOptions("int8"), 3, "int8 has no manifest that tells how it was made; give a checkpoint that"),
    (another_method, ReplayOptions("int8"), 3, "'shrink/int8', and this version makes checkpoints by train, prune"),
    (
        changed_data,
        ReplayOptions("dense", base="model", teacher="model"),
        3,
        "/gone/data.json: no such file; give the data",
    ),
    (
        changed_data,
        ReplayOptions("dense", base="model", teacher="model", train_data=("data.json",)),
        3,
        "--train-data data.json has sha256 NOW, and was read then: /gone/data.json with THEN",
    ),
    (
        lambda: None,
        ReplayOptions("dense", base="model", train_data=("data.json",)),
        3,
        "dense: the teacher: there is no folder /gone/model",
    ),
    (
        lambda: None,
        ReplayOptions("dense", base="model", train_data=("data.json",), teacher="dense"),
        3,
        "dense: the teacher dense has weights sha256 DENSE, and taught with MODEL; give it as --teacher PATH",
    ),
    (
        lambda: None,
        ReplayOptions("int8", teacher="model"),
        2,
        "--teacher model has no effect, as the manifest",
    ),
    (lambda: None, ReplayOptions("int8", train_data=("data.json",)), 2, "--train-data data.json has no effect"),
    (lambda: None, ReplayOptions("int8", eval_data="demo"), 2, "--eval-data has no effect with quantize"),
    (lambda: None, ReplayOptions("int8", Path("int8/again")), 2, "-o int8/again lies in int8, which is read"),
    (lambda: None, ReplayOptions("int8", Path("dense")), 2, "the output folder dense is not empty; pass --overwrite"),
    (lambda: None, ReplayOptions("int8", Path("int8"), overwrite=True), 2, "-o int8 is int8, which is read"),
]


@pytest.mark.parametrize(("spoil", "options", "code", "line"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_made_is_told_at_once(
    spoil: Callable[[], None], options: ReplayOptions, code: int, line: str, place: Path
) -> None:
    known = {"DENSE": sha256_weights(Path("dense")), "MODEL": sha256_weights(Path("model"))}
    manifest = read_manifest(Path("dense"))
    assert manifest is not None
    assert manifest.steps[0].data is not None
    known["THEN"] = manifest.steps[0].data.sha256
    spoil()
    if Path("dense").is_dir():
        known["CHANGED"] = sha256_weights(Path("dense"))
    known["NOW"] = hashlib.sha256(Path("data.json").read_bytes()).hexdigest()
    for word, digest in known.items():
        line = line.replace(word, digest)
    before = sorted(Path().rglob("*"))
    with pytest.raises(CompresskitError) as caught:
        prepared(options)
    assert caught.value.exit_code == code, str(caught.value)
    assert line in str(caught.value)
    assert sorted(Path().rglob("*")) == before


def spoilt(change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the codes of the checkpoint, as damage that nobody lists."""
    tensors = load_file("int8/model.safetensors")
    change(tensors)
    save_file(tensors, "int8/model.safetensors", {"format": "pt"})
    manifest = json.loads(Path("int8", FILE).read_text())
    manifest["files"] = None
    manifest["steps"][-1]["versions"]["torch"] = "1.0"
    Path("int8", FILE).write_text(json.dumps(manifest))


@pytest.mark.parametrize("width", [80, 200])
def test_what_differs_is_told(
    place: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One code in a matrix of 512, a bias by a part of its largest number: exit code 1, unless that is accepted."""
    names = sorted(name for name, each in load_file("int8/model.safetensors").items() if each.dtype == torch.int8)
    bias = "bert.encoder.layer.0.intermediate.dense.bias"

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[names[0]].view(-1)[0] ^= 1
        tensors[bias][3] += tensors[bias].abs().max() / 2

    spoilt(change)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["replay", "int8", "-o", "again"]) == 1
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert "version of torch: 1.0 then, " in shown.out
    cells = [line.split("│")[2].strip() for line in lines if line.count("│") == 7]
    assert bias + names[0] in "".join(cells), "both whole, and the worst one first"
    assert lines[-1].startswith("verdict: differs: 2 of 53 tensors differ by at most 0.")
    assert "error: again is not int8 again: differs: 2 of 53 tensors" in shown.err
    assert "take the versions and the device of then, or accept a difference with --tolerance" in shown.err
    for tolerance, code, verdict in (("0.6", 0, "within"), ("0.1", 1, "differs")):
        assert main(["-q", "replay", "int8", "-o", "again", "--resume", "--json", "--tolerance", tolerance]) == code
        found = json.loads(capsys.readouterr().out)
        assert (found["schema"], found["verdict"]) == ("compresskit.replay/1", verdict)
        assert found["versions"] == {"torch": {"then": "1.0", "now": metadata.version("torch")}}
        (file,) = [each for each in found["files"] if each["apart"]]
        assert {each["name"] for each in file["apart"]} == {bias, names[0]}
        assert found["largest"] == max(each["relative"] for each in file["apart"])
    console.configure()


def test_a_plan_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    words = ["replay", "int8", "--all", "--plan", "--base", "model", "--teacher", "model", "--train-data", "data.json"]
    assert main(words) == 0
    assert sorted(Path().rglob("*")) == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 1 of 2: train of model, to runs/int8-replay-step1"
    assert lines[1].startswith("  on /gone/data.json, whose sha256 is ")
    assert lines[2].startswith("  3 steps on 20 questions; ")
    assert lines[3:5] == [
        "step 2 of 2: quantize/int8 of runs/int8-replay-step1, to runs/int8-replay",
        "  planned in full once the step before it is made",
    ]
    assert main(["-q", "replay", "int8", "--plan"]) == 0
    assert " parameters, about " in capsys.readouterr().out
    console.configure()


def test_a_model_of_the_hub_at_its_revision(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the newest one is by now."""
    kept, commit = place / "cache" / "models--someone--reader", "a" * 40
    shutil.copytree("model", kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "cache"))
    run(Job("quantize", QuantizeOptions("someone/reader", Path("packed")), QuantizeConfig()))
    (kept / "refs" / "main").write_text("b" * 40)
    likeness = prepared(ReplayOptions("packed", Path("again"))).run()
    assert (likeness.verdict, likeness.settings) == ("same", "")
    (again,) = prepared(ReplayOptions("packed", Path("other"), base="model")).makings
    assert (again.job.options.model, again.job.options.revision) == ("model", None)
    shutil.rmtree(place / "cache")
    with pytest.raises(MissingError, match=r"the Hub cannot be reached .*; give it as --base PATH$"):
        prepared(ReplayOptions("packed", Path("other")))


@pytest.mark.slow
def test_a_state_chosen_and_scored_on_questions(place: Path, measured_here: None) -> None:
    """They are found by their hash, and the figures are counted on them again."""
    makers.data(Path("eval.json"))
    known = ["train", "model", "-o", "chosen", "--train-data", "data.json", "--eval-data", "eval.json", "--max-steps"]
    words = [*known, "3", "--eval-steps", "1", "--select-on", "eval", "--max-length", "48", "--stride", "8"]
    assert main([*words, "--batch-size", "4", "--device", "cpu"]) == 0
    likeness = prepared(ReplayOptions("chosen", Path("again"))).run()
    assert likeness.verdict == "same"
    then, now = likeness.metrics["em"]
    assert then == now is not None
    shutil.move("eval.json", "moved.json")
    with pytest.raises(InputError, match=r"eval\.json: no such file; give the data of then as --eval-data PATH"):
        prepared(ReplayOptions("chosen", Path("more")))
    changed_data()
    shutil.copy("moved.json", "train.json")
    with pytest.raises(InputError, match=r"has sha256 .* now, and had .* then; give the data of then as --eval-data"):
        prepared(ReplayOptions("chosen", Path("more"), eval_data="data.json", train_data=("train.json",)))
    found = prepared(ReplayOptions("chosen", Path("more"), eval_data="moved.json", train_data=("train.json",)))
    assert found.makings[0].job.training.select_data == "moved.json"
    console.configure()
