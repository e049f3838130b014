"""`run` from end to end: planned, interrupted, resumed, kept, changed, judged; and `recipes`."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from compresskit.methods import run as methods
from tests.cli.conftest import Run, Trained, tree
from tests.cli.test_signals import start, until

LAB = """about: a mask and int8
options: {max-train-samples: 32, max-steps: 3, batch-size: 8, max-length: 128, stride: 32, device: cpu}
steps:
  - {name: dense, base: demo/bert, method: train, options: {train-data: TRAIN, lr: 1e-3}}
  - {name: smp, base: dense, method: prune, options: {train-data: TRAIN, distill: true, teacher: dense}}
  - {name: int8, base: dense, method: quantize}
eval: {data: EVAL, device: cpu, baseline: dense, latency-questions: 0, gates: ["size<=2x"], allow-weak-baseline: true,
       html: eval.html}
"""


@pytest.fixture
def lab(trained: Trained, place: Path) -> Path:
    """A recipe's file in an empty folder to stand in."""
    text = LAB.replace("TRAIN", str(trained.root / "demo-train.json")).replace("EVAL", str(trained.eval_data))
    (place / "lab.yaml").write_text(text)
    return place


def planned(run: Run, *words: str) -> dict[str, str]:
    """What `--plan` says of each checkpoint; nothing is written."""
    before = tree(Path())
    done = run("run", "lab.yaml", "--plan", *words)
    assert done.code == 0, done.err
    assert tree(Path()) == before
    lines = [line.split(maxsplit=2) for line in done.out.splitlines() if not line.startswith(" ")]
    return {name: f"{action} {rest}" for name, action, rest in lines}


def test_a_recipe_is_run_once(lab: Path, run: Run, measured_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at the end of its first training it goes on from there; what is unchanged is kept."""
    first = planned(run)
    assert {name: told.split()[0] for name, told in first.items()} == dict.fromkeys(("dense", "smp", "int8"), "run") | {
        "eval": "3"
    }
    with monkeypatch.context() as patch:
        patch.setattr(methods, "finish", interrupt)
        assert run("run", "lab.yaml").code == 130
    assert {path.name for path in Path("runs/lab").iterdir()} == {"dense.partial", "dense.step.json"}
    assert planned(run)["dense"] == "resumed train of demo/bert (it was interrupted)"

    done = run("run", "lab.yaml")
    assert done.code == 0, done.err
    assert "going on with train of demo/bert, to runs/lab/dense (it was interrupted)" in done.err
    report = json.loads(Path("runs/lab/eval.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["dense", "smp", "int8"]
    assert report["passed"] is True
    assert Path("runs/lab/eval.html").is_file()
    assert "smp" in done.out

    made = {path: each for path, each in tree(Path("runs/lab")).items() if path.parent.name != "lab"}
    again = run("run", "lab.yaml")
    assert again.code == 0
    assert again.err.count("is kept: nothing changed") == 3
    assert {path: each for path, each in tree(Path("runs/lab")).items() if path.parent.name != "lab"} == made
    assert run("run", "lab.yaml", "--set", "eval.gates=[size<=0.01x]").code == 1

    told = planned(run, "--set", "smp.sparsity=0.9")
    assert told["smp"] == "run prune of dense (again: options.sparsity was None and is 0.9)"
    assert (told["dense"].split()[0], told["int8"].split()[0]) == ("kept", "kept")
    told = planned(run, "--set", "dense.lr=2e-3")
    assert told["int8"] == "run quantize of dense (after dense)"
    Path("runs/lab/int8/model.safetensors").write_bytes(b"")
    assert planned(run)["int8"].startswith("run quantize of dense (again: runs/lab/int8/model.safetensors has 0 bytes")


def test_a_plan_raises_what_the_run_would(lab: Path, run: Run) -> None:
    done = run("run", "lab.yaml", "--plan", "--set", "dense.eval-data=none.json")
    assert done.code == 3
    assert done.err.startswith("error: step dense: none.json")


def test_a_plan_tells_what_is_measured(lab: Path, run: Run) -> None:
    changes = ("blind=held.json", "runs=['both=dense,smp']", "checkpoints=[int8]", "baseline=both")
    told = planned(run, *(word for change in changes for word in ("--set", f"eval.{change}")))["eval"]
    assert told.startswith("3 checkpoints on ")
    assert "; rows of several runs: both; blind set held.json; baseline both; gates: " in told


SIDE_BY_SIDE = """
options: {max-train-samples: 64, batch-size: 8, max-length: 128, stride: 32, device: cpu, train-data: TRAIN}
steps:
  - {name: dense, base: demo/bert, method: train, options: {lr: 1e-3, max-steps: 40, save-steps: 3}}
  - {name: reader, base: demo/lstm, method: train, options: {max-steps: 40, save-steps: 3}}
  - {name: smp, base: dense, method: prune, options: {distill: true, teacher: dense, max-steps: 3}}
  - {name: adapter, base: dense, method: lora, options: {max-steps: 3}}
  - {name: int8, base: reader, method: quantize}
"""


@pytest.mark.slow
def test_steps_side_by_side_make_the_same_bytes(lab: Path, trained: Trained, run: Run) -> None:
    """With as many threads, whether or not they were interrupted on their way."""
    (lab / "lab.yaml").write_text(SIDE_BY_SIDE.replace("TRAIN", str(trained.root / "demo-train.json")))
    assert run("run", "lab.yaml", "-o", "one").code == 0

    program = "import sys\nfrom compresskit.cli.app import main\nsys.exit(main(sys.argv[1:]))"
    words = ["run", "lab.yaml", "--jobs", "2", "-o", "two"]
    with start(program, *words) as process:
        until(lambda: all(list(Path("two").glob(f"{name}.partial/state-*")) for name in ("dense", "reader")), 180)
        process.send_signal(signal.SIGTERM)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = shown.splitlines()
    assert lines[-1] == "error: interrupted by SIGTERM"
    assert all(line.startswith(("dense: ", "reader: ")) for line in lines[:-1]), shown
    assert {path.name for path in Path("two").iterdir()} == {
        f"{name}.{ending}" for name in ("dense", "reader") for ending in ("partial", "step.json")
    }

    assert run(*words).code == 0
    assert weights(Path("two")) == weights(Path("one"))
    assert {name.partition("/")[0] for name in weights(Path("one"))} == {"dense", "reader", "smp", "adapter", "int8"}
    assert "all 5 checkpoints of lab are there already" in run(*words).err


def weights(folder: Path) -> dict[str, bytes]:
    """The files of weights below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_what_is_in_the_way_stays(lab: Path, run: Run, refused) -> None:
    (lab / "runs/lab/dense").mkdir(parents=True)
    (lab / "runs/lab/dense/mine").write_text("mine")
    assert "runs/lab/dense is in the way" in refused(2, "run", "lab.yaml")
    assert "in the way" in refused(2, "run", "lab.yaml", "--plan")
    assert "is not a folder" in refused(2, "run", "lab.yaml", "-o", "lab.yaml")


def test_what_cannot_be_is_told_before_anything_is_written(lab: Path, run: Run, refused) -> None:
    assert "--set eval.gates=[emm>=3]: " in refused(2, "run", "lab.yaml", "--set", "eval.gates=[emm>=3]")
    assert "did you mean demo?" in refused(2, "run", "dmo")
    assert "there is no file dmo.yaml" in refused(3, "run", "dmo.yaml")
    (lab / "lab.yaml").write_text(LAB.replace("lr:", "rl:"))
    assert refused(3, "recipes", "validate", "lab.yaml").startswith("lab.yaml:4: unknown key of train 'rl'")


def test_a_step_that_cannot_be_is_named(lab: Path, run: Run, refused) -> None:
    """What only a model can tell comes with the plan."""
    line = refused(2, "run", "lab.yaml", "--plan", "--set", "dense.max-length=4000")
    assert line.startswith("step dense: --max-length 4000 is more than the")


def test_nothing_is_written_over_what_is_read(lab: Path, trained: Trained, run: Run, refused) -> None:
    for file in (trained.root / "demo-train.json", lab / "lab.yaml"):
        done = run("run", "lab.yaml", "--set", f"eval.html={file}")
        assert done.code == 2, done.err
        assert f"--html {file} is " in done.err
        assert "which is read" in done.err
        assert list((lab / "runs/lab").iterdir()) == []


def test_a_record_that_was_damaged_is_told(lab: Path, run: Run, refused) -> None:
    (lab / "runs/lab").mkdir(parents=True)
    record = lab / "runs/lab/dense.step.json"
    for text in ("{", "[]", '{"schema": "compresskit.step/1"}', RECORD):
        record.write_text(text)
        assert "dense.step.json" in refused(3, "run", "lab.yaml", "--plan")


RECORD = '{"schema": "compresskit.step/1", "method": "train", "options": {}, "inputs": {}, "sha256": "0"}'


def test_recipes_are_listed_shown_copied_and_checked(place: Path, run: Run, refused) -> None:
    assert "ci " in run("recipes", "ls").out
    assert run("recipes", "show", "ci").out.startswith("# What a CI job")
    assert run("recipes", "cp", "ci", "mine.yaml").code == 0
    assert run("recipes", "show", "mine.yaml").out == run("recipes", "show", "ci").out
    assert "--overwrite" in refused(2, "recipes", "cp", "ci", "mine.yaml")
    Path("link.yaml").symlink_to("mine.yaml")
    assert run("recipes", "cp", "demo", "link.yaml", "--overwrite").code == 0
    assert Path("link.yaml").is_symlink()
    assert run("recipes", "validate", "mine.yaml", "--set", "bert-smp.sparsity=0.5").out.startswith(
        "mine.yaml is valid, and makes bert-dense, bert-smp, bert-lora, bert-qlora, bert-int8"
    )
    assert json.loads(run("recipes", "schema").out)["title"] == "A recipe of compresskit"
