"""No verb writes over, into or above what it reads: code 2, one line, and nothing is changed."""

import json
import os
import shutil
from pathlib import Path

import pytest

from compresskit.methods import run as methods_run
from tests.cli.conftest import Run, Trained
from tests.cli.test_bad_input import words_in

PROMPT = json.dumps({"template": "{question} {context}"})
SHORT = ["--max-steps", "1", "--max-length", "64", "--stride", "16", "--device", "cpu"]


@pytest.fixture
def things(trained: Trained, place: Path) -> Path:
    """Copies of what verbs read: a dense checkpoint, a mask on it, data, answers, a report; and links to some."""
    shutil.copytree(trained.dense, place / "dense")
    shutil.copytree(trained.pruned("magnitude"), place / "magnitude")
    (place / "holder").mkdir()
    shutil.copyfile(trained.eval_data, place / "holder" / "squad.json")
    (place / "squad.json").symlink_to("holder/squad.json")
    (place / "answers.json").write_text(json.dumps({"q": "a"}))
    (place / "link").symlink_to("dense")
    (place / "linked.json").symlink_to("answers.json")
    return place


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal comes before any work."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    for name in ("load_trainable", "load_whole", "load_for_training", "starting_point"):
        monkeypatch.setattr(methods_run, name, load)


@pytest.mark.parametrize("flag", ["-o", "--html", "--junit", "--plot"])
@pytest.mark.parametrize("output", ["squad.json", "answers.json", "./holder/../linked.json", "holder/squad.json"])
def test_a_file_of_an_evaluation_over_what_it_reads(flag: str, output: str, things: Path, refused) -> None:
    words = ["eval", "answers.json", "--data", "squad.json"]
    if flag == "--plot":
        words, output = ["eval", "dense", "--data", "demo"], "link/map.png"
    line = refused(2, *words, flag, output)
    assert str(Path(output)) in words_in(line)
    assert "which is read" in line


@pytest.mark.parametrize(
    "words",
    [
        "answers.json --data demo --baseline linked.json -o answers.json",
        "answers.json --data demo --null-threshold auto --tune-data squad.json -o squad.json",
        "magnitude --data demo -o dense/model.safetensors",
        "magnitude --data demo -o magnitude/eval.json",
        "holder/answers --data demo --predictions .",
        "dense --data demo --prompt-template prompt.json -o linked.json",
    ],
)
def test_further_inputs_of_an_evaluation(words: str, things: Path, refused) -> None:
    (things / "holder" / "answers").write_text("{}")
    if "--prompt-template" in words:
        (things / "prompt.json").symlink_to("answers.json")
        (things / "answers.json").write_text(PROMPT)
    if "--predictions" in words:  # the answers of a checkpoint `squad` go to `squad.json`
        words = "holder/squad --data squad.json --predictions ."
        (things / "holder" / "squad").write_text("{}")
    assert "which is read" in refused(2, "eval", *words.split())


@pytest.mark.parametrize("key", ["output", "junit"])
@pytest.mark.parametrize("file", ["pyproject.toml", "compresskit.yaml"])
@pytest.mark.parametrize("over", ["squad.json", "itself"])
def test_settings_of_an_evaluation_over_what_it_reads(key: str, file: str, over: str, things: Path, refused) -> None:
    over = file if over == "itself" else over
    if file == "pyproject.toml":
        text = f'[tool.compresskit.eval]\ncheckpoints = ["answers.json"]\ndata = "squad.json"\n{key} = "{over}"\n'
    else:
        text = f"checkpoints: [answers.json]\ndata: squad.json\n{key}: {over}\n"
    (things / file).write_text(text)
    assert {f"--{key}", over, "read;"} <= words_in(refused(2, "eval")) | {"read;"}


@pytest.mark.parametrize("flag", ["-o", "--html", "--junit"])
def test_a_report_over_a_report(flag: str, things: Path, refused) -> None:
    assert "which is read" in refused(2, "report", "answers.json", flag, "linked.json")


def test_a_heat_map_in_what_it_shows(things: Path, refused) -> None:
    assert "dense/map.png lies in" in refused(2, "inspect", "magnitude", "--plot", "dense/map.png")


@pytest.mark.parametrize(
    "words",
    [
        "merge magnitude -o dense",  # the base that the manifest names
        "merge magnitude -o magnitude",
        "merge magnitude -o holder/../magnitude/",
        "merge magnitude -o .",
        "merge magnitude -o dense/merged",
        "quantize link -o dense",
        "quantize dense --calibrate 1000 --train-data squad.json -o holder",
        "quantize dense -o dense --plan",
        "quantize magnitude -o dense --plan",
        "export magnitude --onnx -o dense",
        "train dense -o link",
        "train dense -o holder",
        "train dense -o holder --plan",
        "train dense -o dense",
        "train demo/bert --train-data demo --eval-data squad.json -o holder",
        "train demo/bert --train-data demo --eval-data squad.json -o holder --plan",
        "train demo/bert --train-data demo --distill --teacher magnitude -o dense",
        "train lstm --embeddings holder/words.vec --train-data demo -o holder",
        "train demo/t5 --prompt-template holder/prompt.json --train-data demo -o holder",
        "train demo/t5 --prompt-template holder/prompt.json --train-data demo -o holder --plan",
        "train dense-teacher --train-data demo --distill -o dense",
        "prune dense -o dense",
        "prune dense -o dense --plan",
        "prune demo/bert --distill --teacher link -o dense",
        "lora dense -o dense",
        "qlora link -o dense",
        "qlora dense-base -o dense",
        "qlora dense-base -o dense --plan",
        "qlora dense --train-data squad.json -o holder",
    ],
)
def test_a_checkpoint_over_what_it_is_made_of(words: str, things: Path, refused) -> None:
    verb, *rest = words.split()
    (things / "holder" / "words.vec").write_text("1 2\na 1 2\n")
    (things / "holder" / "prompt.json").write_text(PROMPT)
    for name in ("dense-teacher", "dense-base"):
        if name in rest:
            shutil.copytree("dense", name)
    if verb in ("train", "prune", "lora", "qlora"):
        rest += SHORT
        rest += [] if "--train-data" in rest else ["--train-data", "squad.json"]
    line = refused(2, verb, *rest, "--overwrite")
    assert "which is read" in line or "has no name of its own" in line


def test_data_in_the_folder_of_the_work(things: Path, refused) -> None:
    (things / "out.partial").mkdir()
    shutil.copyfile("squad.json", "out.partial/squad.json")
    words = ["train", "dense", "--train-data", "out.partial/squad.json", "-o", "out"]
    assert "out.partial holds out.partial/squad.json" in refused(2, *words, *SHORT)


def test_what_a_crash_left_beside_a_finished_run_goes(trained: Trained, place: Path, run: Run) -> None:
    """Nothing is trained again."""
    shutil.copytree(trained.dense, place / "dense")
    (place / "dense.partial").mkdir()
    (place / "dense.partial" / "run.json").write_text("{}")
    words = ["train", "demo/bert", "-o", "dense", "--lr", "1e-3", *trained.short, "--resume"]
    assert run(*words).code == 0
    assert [path.name for path in place.iterdir()] == ["dense"]


@pytest.mark.parametrize("more", [[], ["--plan"]], ids=["run", "plan"])
@pytest.mark.parametrize(
    "output", ["", "link", "loop", "fifo", "holder", "\udcff", "n" * 5000], ids=lambda name: ascii(name)[:9]
)
@pytest.mark.parametrize("verb", ["train", "prune", "lora", "qlora", "quantize", "merge", "export"])
def test_an_output_that_cannot_be(verb: str, output: str, more: list[str], things: Path, refused) -> None:
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")
    words = [verb, "magnitude" if verb == "merge" else "holder/../dense"]
    words += ["--onnx"] if verb == "export" else []
    words += ["--train-data", "demo", *SHORT] if verb in ("train", "prune", "lora", "qlora") else []
    if not (more and verb in ("merge", "export")):  # which have no plan
        for overwrite in ([], ["--overwrite"]):
            line = refused(2, *words, "-o", output, *overwrite, *more)
            assert len(line) < 600


def test_a_packed_base_that_cannot_be(things: Path, refused) -> None:
    words = ["qlora", "dense", "--train-data", "demo", "-o", "out", *SHORT]
    Path("out-base").symlink_to("nowhere")
    for more in ([], ["--overwrite"], ["--plan"]):
        assert "out-base is a link" in refused(2, *words, *more)


def test_a_teachers_place_that_cannot_be(things: Path, refused) -> None:
    words = ["train", "dense", "--distill", "--train-data", "demo", "-o", "out", *SHORT]
    Path("out-teacher").mkdir()
    Path("out-teacher", "mine.txt").write_text("mine")
    for more in ([], ["--overwrite"], ["--plan"]):
        assert "out-teacher is not empty" in refused(2, *words, *more)


@pytest.mark.parametrize("output", ["link", "", "loop", "fifo", "answers.json"])
def test_a_demos_output_that_cannot_be(output: str, things: Path, refused) -> None:
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")
    refused(2, "demo", "-o", output)


def test_a_demo_touches_nothing_that_is_in_its_way(things: Path, refused) -> None:
    (things / "holder" / "t5-dense").mkdir()
    (things / "holder" / "t5-dense" / "mine.txt").write_text("mine")
    assert "holder/t5-dense is in the way" in refused(2, "demo", "-o", "holder")
