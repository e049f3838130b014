"""Bad input from the command line: one line on stderr, the right exit code, nothing written."""

import errno
import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification

from compresskit.checkpoint import store
from compresskit.training import state
from tests.cli.conftest import VERBS, Run, Trained, words_of
from tests.models import tiny


def copy(trained: Trained, *names: str) -> list[Path]:
    """Copies of trained folders beside each other, to be damaged."""
    return [Path(shutil.copytree(trained.root / name, Path(name))).resolve() for name in names]


def words_in(line: str) -> set[str]:
    """The words of a line, without the punctuation that ends them."""
    return {word.rstrip(",.;:?") for word in line.split()}


# Names


@pytest.mark.parametrize("verb", ["train", "prune", "predict -q a -c b", "inspect", "merge"])
def test_an_unknown_alias(verb: str, refused) -> None:
    first, *rest = verb.split()
    assert {"'demo/brt'", "demo/bert"} <= words_in(refused(2, first, "demo/brt", *rest))
    assert {"'zzzzz'", "bert", "lstm", "demo/bert", "demo/lstm", "demo/mamba", "demo/t5"} <= words_in(
        refused(2, first, "zzzzz", *rest)
    )


@pytest.mark.parametrize("verb", ["train", "prune", "predict -q a -c b", "inspect", "merge"])
def test_no_hub(verb: str, refused) -> None:
    first, *rest = verb.split()
    line = refused(4, first, "nobody/nothing", *rest)
    assert {"nobody/nothing", "demo/bert"} <= words_in(line)
    assert "`hf download nobody/nothing " in line


def test_no_hub_for_the_data(trained: Trained, refused) -> None:
    words = ["train", trained.dense, "--train-data", "nobody/nothing", "-o", "out", "--max-length", "128"]
    assert "nobody/nothing" in refused(4, *words, "--stride", "32")


@pytest.mark.parametrize("verb", ["train", "prune", "predict -q a -c b", "inspect", "merge"])
def test_no_such_folder(verb: str, refused) -> None:
    first, *rest = verb.split()
    assert "./nowhere" in words_in(refused(3, first, "./nowhere", *rest))


# Values


@pytest.mark.parametrize("sparsity", ["1", "1.5", "-0.1", "nan", "inf"])
def test_sparsity_outside_its_range(sparsity: str, trained: Trained, refused) -> None:
    line = refused(2, "prune", trained.dense, f"--sparsity={sparsity}", *trained.short)
    assert line.startswith(f"--sparsity {sparsity} is not ")


@pytest.mark.parametrize(
    "wrong",
    [
        "--sparsity x",
        "--method mask",
        "--block 32",
        "--block 0x4",
        "--score-lr 0",
        "--penalty inf",
        "--lr 0",
        "--lr inf",
        "--epochs 0",
        "--seed -1",
        "--batch-size 0",
        "--device gpu",
        "--negatives 2",
        "--temperature 0 --distill",
        "--temperature nan --distill",
        "--distill-weight 2 --distill",
    ],
)
def test_impossible_values(wrong: str, trained: Trained, refused) -> None:
    flag, value, *rest = wrong.split()
    line = refused(2, "prune", trained.dense, "-o", "out", *trained.short, flag, value, *rest)
    assert line.startswith(f"{flag} {value} is not ")


@pytest.mark.parametrize(
    "without",
    [
        "--temperature 3",
        "--distill-weight 0.5",
        "--teacher-lr 1e-4",
        "--teacher-epochs 1 --teacher x --distill",
        "--score-lr 0.1 --method magnitude",
        "--penalty 4 --method movement",
        "--variant 4",
    ],
)
def test_flags_without_effect(without: str, trained: Trained, refused) -> None:
    line = refused(2, "prune", trained.dense, "-o", "out", *trained.short, *without.split())
    assert line.startswith(without.split()[0])
    assert "has no effect" in line


def test_a_teacher_has_no_part_in_a_training_without_distillation(trained: Trained, refused) -> None:
    line = refused(2, "train", trained.dense, "-o", "out", *trained.short, "--teacher", trained.dense)
    assert line.startswith("--teacher ")
    assert "has no effect" in line


def test_epochs_beside_steps(trained: Trained, refused) -> None:
    line = refused(2, "train", trained.dense, "-o", "out", *trained.short, "--epochs", "2")
    assert line.startswith("--epochs 2 has no effect ")


@pytest.mark.parametrize("more", ["--seed 3", "--show-flips 2", "--metrics ppl"])
def test_flags_without_effect_on_an_evaluation(more: str, trained: Trained, refused) -> None:
    line = refused(2, "eval", trained.dense, "--data", "demo", *more.split())
    assert line.startswith(more)
    assert "has no effect" in line


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_a_learning_rate_at_which_nothing_learns(more: list[str], trained: Trained, refused) -> None:
    """With SMP the scores have a rate of their own, and the weights and a head that is there stay."""
    line = refused(2, "prune", trained.dense, "-o", "out", *trained.short, "--lr", "1e-4", *more)
    assert line.startswith("--lr 0.0001 has no effect ")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--warmup 0.5 --cooldown 0.5", ("--warmup 0.5", "--cooldown 0.5")),
        ("--max-length 4096", ("--max-length 4096", "512")),
        ("--max-length 64 --stride 60", ("--max-length 64", "--stride 60")),
    ],
)
def test_values_that_do_not_go_together(flags: str, named: tuple[str, ...], trained: Trained, refused) -> None:
    told = "--stride" in flags  # the data is read before its questions are cut
    line = refused(2, "prune", trained.dense, "-o", "out", *trained.short, *flags.split(), told=told)
    assert all(name in line for name in named), line


@pytest.mark.parametrize("flag", ["--eval-data", "--train-data"])
def test_data_that_is_not_there(flag: str, trained: Trained, refused) -> None:
    line = refused(3, "prune", trained.dense, "-o", "out", *trained.short, flag, "nowhere.json")
    assert "nowhere.json" in words_in(line)


@pytest.mark.parametrize("teacher", [[], ["--distill"]])
def test_blocks_that_do_not_divide_a_matrix(teacher: list[str], trained: Trained, refused) -> None:
    """Found before the data is read, and before a teacher is trained."""
    line = refused(2, "prune", trained.dense, "--block", "48x48", "-o", "out", *trained.short, *teacher)
    assert {"--block", "48x48", "128x128", "bert.encoder.layer.0.attention.self.query.weight"} <= words_in(line)


def test_an_overlay_is_no_base(trained: Trained, refused) -> None:
    folder = trained.pruned("smp")
    line = refused(3, "prune", folder, "-o", "out", *trained.short)
    assert {str(folder), "mask"} <= words_in(line)
    assert line.endswith(f"compresskit merge {folder}")


def test_random_weights_are_nothing_to_prune(trained: Trained, refused) -> None:
    line = refused(2, "prune", "demo/bert", "-o", "out", *trained.short)
    assert {"demo/bert", "random", "--distill"} <= words_in(line)


@pytest.mark.parametrize("words", ["", "-q Who?", "-c Rome.", "-q Who? --input questions.jsonl -c Rome."])
def test_predict_needs_a_question_or_a_file(words: str, trained: Trained, refused) -> None:
    line = refused(2, "predict", trained.dense, *words.split())
    assert all(flag in line for flag in ("-q", "-c", "--input FILE"))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"question": "Who?", "context": "Rome."}\n{"question": "Who?"}\n', "line 2"),
        (b"{\n", "line 2"),
        (b'["Who?", "Rome."]\n', "row 0"),
        (b'{"question": 7, "context": "Rome."}\n', "line 1"),
        (b"\xff\xfd\n", "UTF-8"),
    ],
)
def test_broken_lines_of_questions(content: bytes, where: str, trained: Trained, place: Path, refused) -> None:
    (place / "questions.jsonl").write_bytes(content)
    line = refused(3, "predict", trained.dense, "--input", "questions.jsonl")
    assert line.startswith("questions.jsonl")
    assert where in line


def test_an_empty_question(trained: Trained, refused) -> None:
    assert "question" in refused(3, "predict", trained.dense, "-q", " ", "-c", "Rome.")


# Folders


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_is_no_checkpoint(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "photos").mkdir()
    (place / "photos" / "one.txt").write_text("no model")
    line = refused(3, *words_of(verb, place / "photos", trained))
    assert re.match(r"\S*photos is (no|not a) checkpoint", line)


@pytest.mark.parametrize("verb", VERBS)
def test_truncated_weights(verb: str, trained: Trained, refused) -> None:
    dense, overlay = copy(trained, "dense", "smp")
    folder, name = (overlay, "mask.safetensors") if verb == "merge" else (dense, "model.safetensors")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert str(folder / name) in words_in(refused(3, *words_of(verb, folder, trained)))


@pytest.mark.parametrize("verb", ["train", "prune", "predict"])
def test_a_model_of_no_known_family(verb: str, trained: Trained, place: Path, refused) -> None:
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTForImageClassification(config).save_pretrained(place / "vit")
    tiny.bpe().save_pretrained(place / "vit")
    assert {str(place / "vit"), "vit"} <= words_in(refused(3, *words_of(verb, place / "vit", trained)))


def test_code_in_a_checkpoint_is_not_run(trained: Trained, place: Path, refused, monkeypatch) -> None:
    """Nor does anybody ask on the terminal whether it should be."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    (folder,) = copy(trained, "dense")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit(0)")
    assert str(folder / "config.json") in words_in(refused(3, *words_of("predict", folder, trained)))


def test_a_checkpoint_without_head_does_not_answer(refused) -> None:
    line = refused(3, "predict", "demo/bert", "-q", "Who?", "-c", "Rome.")
    assert {"demo/bert", "head"} <= words_in(line)
    assert line.endswith("compresskit train demo/bert")


@pytest.mark.parametrize("verb", ["predict", "merge"])
def test_an_overlay_on_a_wrong_base(verb: str, trained: Trained, refused) -> None:
    dense, overlay = copy(trained, "dense", "smp")
    tensors = load_file(dense / "model.safetensors")
    tensors["qa_outputs.bias"] += 1
    save_file(tensors, dense / "model.safetensors", metadata={"format": "pt"})
    line = refused(3, *words_of(verb, overlay, trained))
    hashes = {store.sha256_weights(folder) for folder in (dense, trained.dense)}
    assert hashes == set(re.findall(r"\b[0-9a-f]{64}\b", line))


def test_merging_what_is_no_overlay(trained: Trained, refused) -> None:
    line = refused(3, "merge", trained.dense, "-o", "out")
    assert {str(trained.dense), "full", "mask"} <= words_in(line)


def test_the_kind_is_looked_at_before_the_model_is_opened(trained: Trained, refused, monkeypatch) -> None:
    monkeypatch.setattr("compresskit.models.registry.open_source", lambda *_: pytest.fail("opened"))
    refused(3, "merge", trained.dense, "-o", "out")
    refused(3, "prune", trained.pruned("smp"), "-o", "out", *trained.short)


# Teachers


def test_a_teacher_without_head(trained: Trained, refused) -> None:
    words = ["prune", trained.dense, "--distill", "--teacher", "demo/bert", "-o", "out", *trained.short]
    assert {"demo/bert", "head"} <= words_in(refused(3, *words, told=1))


def test_a_teacher_for_random_weights_of_another_family(trained: Trained, refused) -> None:
    words = ["prune", "demo/lstm", "--distill", "--teacher", trained.dense, "-o", "out", *trained.short]
    line = refused(2, *words)
    assert {"demo/lstm", "random", "teacher"} <= words_in(line)
    assert refused(2, *words, "--plan") == line


def test_a_teacher_that_is_not_there(trained: Trained, refused) -> None:
    words = ["prune", trained.dense, "--distill", "-o", "out", *trained.short]
    assert "./nowhere" in words_in(refused(3, *words, "--teacher", "./nowhere"))


# Outputs


@pytest.mark.parametrize("verb", ["train", "prune", "merge"])
def test_an_output_that_is_not_empty(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("keep")
    folder = trained.pruned("smp") if verb == "merge" else trained.dense
    assert {"out", "--overwrite", "-o"} <= words_in(refused(2, *words_of(verb, folder, trained)))
    shutil.rmtree(place / "out")
    (place / "out").write_text("a file")
    assert {"out", "file", "-o"} <= words_in(refused(2, *words_of(verb, folder, trained)))


@pytest.mark.parametrize("verb", ["train", "prune", "merge"])
def test_an_output_that_cannot_be_made(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "file").touch()
    words = words_of(verb, trained.pruned("smp") if verb == "merge" else trained.dense, trained)
    words[words.index("out")] = "file/out"
    assert {"file/out", "-o"} <= words_in(refused(2, *words))


def test_a_finished_run_of_other_options_is_not_taken_for_this_one(trained: Trained, refused) -> None:
    words = ["train", "demo/bert", "-o", trained.dense, "--lr", "2e-3", *trained.short, "--resume"]
    assert "lr was 0.001 and is 0.002" in refused(2, *words)


def test_a_teacher_of_other_options_is_not_taken_for_this_one(trained: Trained, place: Path, refused) -> None:
    shutil.copytree(trained.dense, place / "out-teacher")
    line = refused(2, "prune", "demo/bert", "--distill", "-o", "out", *trained.short)
    assert {"out-teacher", "--teacher", "--overwrite"} <= words_in(line)
    assert "lr was " in line


@pytest.mark.parametrize("verb", ["train", "prune"])
def test_an_output_in_use(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "out.partial").mkdir()
    with (place / "out.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = refused(2, *words_of(verb, trained.dense, trained))
    assert "out.partial" in words_in(line)


def test_an_interrupted_run_is_not_touched(trained: Trained, place: Path, refused) -> None:
    (place / "out.partial").mkdir()
    (place / "out.partial" / "lock").touch()
    (place / "out.partial" / "run.json").write_text(json.dumps({"method": "train", "model": "another"}))
    words = words_of("train", trained.dense, trained)
    for more in ([], ["--plan"]):
        assert {"out.partial", "--resume", "--overwrite"} <= words_in(refused(2, *words, *more))
        assert "model was 'another'" in refused(2, *words, "--resume", *more)


def test_overwrite_replaces_the_output(trained: Trained, place: Path, run: Run) -> None:
    (place / "out").mkdir()
    (place / "out" / "config.json").write_text("{}")
    (place / "out" / "mine.txt").write_text("old")
    assert run(*words_of("merge", trained.pruned("smp"), trained), "--overwrite").code == 0
    assert not (place / "out" / "mine.txt").exists()
    assert [path.name for path in place.iterdir()] == ["out"]


# The machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("verb", ["train", "prune", "predict"])
def test_no_gpu_where_one_is_asked_for(verb: str, trained: Trained, refused) -> None:
    words = [*words_of(verb, trained.dense, trained), "--device", "cuda"]
    assert {"CUDA", "--device", "cpu"} <= words_in(refused(4, *words))


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/model.safetensors")


def test_a_full_disk_while_a_result_is_written(trained: Trained, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_sync", full)
    line = refused(5, "merge", trained.pruned("smp"), "-o", "out")
    assert {"disk", "full", "out/model.safetensors", "--output"} <= words_in(line)


def test_a_full_disk_while_training(trained: Trained, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states before it stay, under the name of a run in progress; nothing carries the final name."""
    save = state.save_optimizer
    calls = []

    def second_fails(*words: Any) -> None:
        calls.append(1)
        full() if len(calls) == 2 else save(*words)

    monkeypatch.setattr(state, "save_optimizer", second_fails)
    words = [*words_of("train", trained.dense, trained), "--save-steps", "2"]
    done = run(*words)
    assert (done.code, done.out) == (5, "")
    assert {"disk", "full", "out/model.safetensors", "--output"} <= words_in(done.err.splitlines()[-1])
    assert [path.name for path in place.iterdir()] == ["out.partial"]
    assert [path.name for path in (place / "out.partial").glob("state-*")] == ["state-00000002"]
    assert run(*words, "--resume").code == 0
    assert [path.name for path in place.iterdir()] == ["out"]
