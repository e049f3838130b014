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
from transformers import GPT2Config, GPT2LMHeadModel

from compresskit.checkpoint import store
from compresskit.training import state
from tests.cli.conftest import VERBS, Run, Trained, words_of
from tests.models import tiny


def copy(trained: Trained, *names: str) -> list[Path]:
    """Copies of trained folders beside each other, to be damaged."""
    return [Path(shutil.copytree(trained.root / name, Path(name))).resolve() for name in names]


# Names


@pytest.mark.parametrize("verb", ["train", "prune", "predict -q a -c b", "inspect", "merge"])
def test_an_unknown_alias(verb: str, refused) -> None:
    first, *rest = verb.split()
    assert refused(2, first, "demo/brt", *rest) == "unknown model 'demo/brt'; did you mean demo/bert?"
    assert "known: bert, lstm, demo/bert, demo/lstm" in refused(2, first, "zzzzz", *rest)


@pytest.mark.parametrize("verb", ["train", "prune", "predict -q a -c b", "inspect", "merge"])
def test_no_hub(verb: str, refused) -> None:
    first, *rest = verb.split()
    line = refused(4, first, "nobody/nothing", *rest)
    assert re.match(
        r"there is no folder nobody/nothing here, and the Hub cannot be reached .*`hf download .*, or try demo/bert$",
        line,
    )


def test_no_hub_for_the_data(trained: Trained, refused) -> None:
    words = ["train", trained.dense, "--train-data", "nobody/nothing", "-o", "out", "--max-length", "128"]
    assert "nobody/nothing" in refused(4, *words, "--stride", "32")


@pytest.mark.parametrize("verb", ["train", "prune", "predict -q a -c b", "inspect", "merge"])
def test_no_such_folder(verb: str, refused) -> None:
    first, *rest = verb.split()
    assert refused(3, first, "./nowhere", *rest) == "there is no folder ./nowhere; check the path"


# Values


@pytest.mark.parametrize("sparsity", ["1", "1.5", "-0.1", "nan", "inf"])
def test_sparsity_outside_its_range(sparsity: str, trained: Trained, refused) -> None:
    line = refused(2, "prune", trained.dense, f"--sparsity={sparsity}", *trained.short)
    assert line.startswith(f"--sparsity {float(sparsity):g} is not in [0, 1): ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--sparsity x", "invalid value for '--sparsity'"),
        ("--method mask", "'mask' is not one of 'smp'"),
        ("--block 32", "--block '32' is not a shape; give ROWSxCOLUMNS"),
        ("--block 0x4", "--block 0x4 is not a shape"),
        ("--warmup 0.5 --cooldown 0.5", "leave no steps to prune in"),
        ("--score-lr 0", "--score-lr must be above 0"),
        ("--distill --temperature 0", "--temperature must be above 0"),
        ("--distill --distill-weight 2", "--distill-weight in [0, 1]"),
        ("--distill --temperature nan", "--temperature must be above 0"),
        ("--penalty inf", "--penalty at least 0, both finite"),
        ("--temperature 3", "--temperature has no effect without --distill"),
        ("--distill-weight 0.5", "--distill-weight has no effect without --distill"),
        ("--teacher-lr 1e-4", "--teacher-lr has no effect where no teacher is trained first"),
        (
            "--teacher x --distill --teacher-epochs 1",
            "--teacher-epochs has no effect where no teacher is trained",
        ),
        ("--method magnitude --score-lr 0.1", "--score-lr has no effect with --method magnitude"),
        ("--method movement --penalty 4", "--penalty has no effect with --method movement"),
        ("--lr 0", "--lr"),
        ("--lr inf", "--epochs, --lr and --negatives must be finite"),
        ("--eval-data nowhere.json", "nowhere.json"),
        ("--seed -1", "invalid value for '--seed'"),
        ("--max-length 4096", "--max-length 4096 is more than the 512 tokens"),
        ("--max-length 64 --stride 60", "leaves no room for a question beside --stride 60"),
        ("--train-data nowhere.json", "nowhere.json"),
    ],
)
def test_impossible_values(flags: str, words: str, trained: Trained, refused) -> None:
    told = 1 if "no room" in words else 0  # the data is read before its questions are cut
    code = 3 if "nowhere" in words else 2
    assert words in refused(code, "prune", trained.dense, "-o", "out", *trained.short, *flags.split(), told=told)


def test_blocks_that_do_not_divide_a_matrix(trained: Trained, refused) -> None:
    line = refused(2, "prune", trained.dense, "--block", "48x48", "-o", "out", *trained.short, told=1)
    assert re.search(r"layer\.0\.attention.* of 128x128 cannot be cut into blocks of 48x48; choose a --block", line)


def test_blocks_are_tried_before_a_teacher_is_trained(trained: Trained, refused) -> None:
    words = ["prune", trained.dense, "--distill", "--block", "48x48", "-o", "out", *trained.short]
    assert "cannot be cut into blocks of 48x48" in refused(2, *words)


@pytest.mark.parametrize("flag", ["--lr", "--epochs"])
def test_zero_is_no_default(flag: str, trained: Trained, refused) -> None:
    assert "must be above 0" in refused(2, "train", trained.dense, flag, "0", "-o", "out", *trained.short)


def test_an_overlay_is_no_base(trained: Trained, refused) -> None:
    folder = trained.pruned("smp")
    line = refused(3, "prune", folder, "-o", "out", *trained.short)
    assert line == f"{folder} is no plain checkpoint (its kind is mask); merge it first: compresskit merge {folder}"


def test_random_weights_are_nothing_to_prune(trained: Trained, refused) -> None:
    assert "random weights: nothing to prune yet" in refused(2, "prune", "demo/bert", "-o", "out", *trained.short)


@pytest.mark.parametrize("words", ["", "-q Who?", "-c Rome.", "-q Who? --input questions.jsonl -c Rome."])
def test_predict_needs_a_question_or_a_file(words: str, trained: Trained, refused) -> None:
    assert "give a question and a passage" in refused(2, "predict", trained.dense, *words.split())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"question": "Who?", "context": "Rome."}\n{"question": "Who?"}\n', "line 2: not an object with"),
        (b"{\n", "line 1: not an object with"),
        (b'["Who?", "Rome."]\n', "line 1: not an object with"),
        (b'{"question": 7, "context": "Rome."}\n', "question and context are texts"),
        (b"\xff\xfe\n", "give a UTF-8 file of JSON lines"),
    ],
)
def test_broken_lines_of_questions(content: bytes, words: str, trained: Trained, place: Path, refused) -> None:
    (place / "questions.jsonl").write_bytes(content)
    assert words in refused(3, "predict", trained.dense, "--input", "questions.jsonl")


def test_an_empty_question(trained: Trained, refused) -> None:
    assert "the question is empty" in refused(3, "predict", trained.dense, "-q", " ", "-c", "Rome.")


# Folders


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_is_no_checkpoint(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "photos").mkdir()
    (place / "photos" / "one.txt").write_text("no model")
    assert "photos is no checkpoint: it h" in refused(3, *words_of(verb, place / "photos", trained))


@pytest.mark.parametrize("verb", VERBS)
def test_truncated_weights(verb: str, trained: Trained, refused) -> None:
    (folder,) = copy(trained, "dense")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "model.safetensors is no whole safetensors file" in refused(3, *words_of(verb, folder, trained))


@pytest.mark.parametrize("verb", ["train", "prune", "predict"])
def test_a_model_of_no_known_family(verb: str, trained: Trained, place: Path, refused) -> None:
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(place / "gpt")
    tiny.bpe().save_pretrained(place / "gpt")
    assert "is a gpt2 model, of none of the families" in refused(3, *words_of(verb, place / "gpt", trained))


def test_code_in_a_checkpoint_is_not_run(trained: Trained, place: Path, refused, monkeypatch) -> None:
    """Nor does anybody ask on the terminal whether it should be."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    (folder,) = copy(trained, "dense")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit(0)")
    assert "config.json cannot be read" in refused(3, *words_of("predict", folder, trained))


def test_a_checkpoint_without_head_does_not_answer(refused) -> None:
    assert "demo/bert has no trained question-answering head" in refused(
        3, "predict", "demo/bert", "-q", "Who?", "-c", "Rome."
    )


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
    assert "is no overlay; a plain checkpoint needs no merging" in refused(3, "merge", trained.dense, "-o", "out")


# Teachers


def test_a_teacher_without_head(trained: Trained, refused) -> None:
    words = ["prune", trained.dense, "--distill", "--teacher", "demo/bert", "-o", "out", *trained.short]
    assert "demo/bert has no trained question-answering head" in refused(3, *words, told=1)


def test_a_teacher_for_random_weights_of_another_family(trained: Trained, refused) -> None:
    words = ["prune", "demo/lstm", "--distill", "--teacher", trained.dense, "-o", "out", *trained.short]
    line = "demo/lstm has random weights: nothing to prune yet; train it, and prune that with this teacher"
    assert refused(2, *words) == line
    assert refused(2, *words, "--plan") == line


def test_a_teacher_that_is_not_there(trained: Trained, refused) -> None:
    words = ["prune", trained.dense, "--distill", "-o", "out", *trained.short]
    assert refused(3, *words, "--teacher", "./nowhere") == "there is no folder ./nowhere; check the path"


# Outputs


@pytest.mark.parametrize("verb", ["train", "prune", "merge"])
def test_an_output_that_is_not_empty(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("keep")
    folder = trained.pruned("smp") if verb == "merge" else trained.dense
    assert re.search("out is not empty; pass --overwrite", refused(2, *words_of(verb, folder, trained)))
    shutil.rmtree(place / "out")
    (place / "out").write_text("a file")
    assert "out is a file; choose another folder" in refused(2, *words_of(verb, folder, trained))


@pytest.mark.parametrize("verb", ["train", "prune", "merge"])
def test_an_output_that_cannot_be_made(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "file").touch()
    words = words_of(verb, trained.pruned("smp") if verb == "merge" else trained.dense, trained)
    words[words.index("out")] = "file/out"
    assert re.fullmatch(r"file/out cannot be made \(.*\); choose another place with -o", refused(2, *words))


def test_a_finished_run_of_other_options_is_not_taken_for_this_one(trained: Trained, refused) -> None:
    words = ["train", "demo/bert", "-o", trained.dense, "--lr", "2e-3", *trained.short, "--resume"]
    assert "is another run (lr was 0.001 and is 0.002)" in refused(2, *words)


def test_a_teacher_of_other_options_is_not_taken_for_this_one(trained: Trained, place: Path, refused) -> None:
    shutil.copytree(trained.dense, place / "out-teacher")
    line = refused(2, "prune", "demo/bert", "--distill", "-o", "out", *trained.short)
    assert re.match(r"the teacher in out-teacher was trained with other options \(lr was .*--teacher out-teacher", line)


@pytest.mark.parametrize("verb", ["train", "prune"])
def test_an_output_in_use(verb: str, trained: Trained, place: Path, refused) -> None:
    (place / "out.partial").mkdir()
    with (place / "out.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = refused(2, *words_of(verb, trained.dense, trained))
    assert "another run is working in out.partial; wait for it" in line


def test_an_interrupted_run_is_not_touched(trained: Trained, place: Path, refused) -> None:
    (place / "out.partial").mkdir()
    (place / "out.partial" / "lock").touch()
    (place / "out.partial" / "run.json").write_text(json.dumps({"method": "train", "model": "another"}))
    words = words_of("train", trained.dense, trained)
    assert "holds an interrupted run; --resume goes on with it, --overwrite starts anew" in refused(2, *words)
    assert "is another run" in refused(2, *words, "--resume")


def test_overwrite_replaces_the_output(trained: Trained, place: Path, run: Run) -> None:
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("old")
    assert run(*words_of("merge", trained.pruned("smp"), trained), "--overwrite").code == 0
    assert not (place / "out" / "mine.txt").exists()
    assert [path.name for path in place.iterdir()] == ["out"]


# The machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("verb", ["train", "prune", "predict"])
def test_no_gpu_where_one_is_asked_for(verb: str, trained: Trained, refused) -> None:
    words = [*words_of(verb, trained.dense, trained), "--device", "cuda"]
    assert refused(4, *words).startswith("no CUDA device here; use --device cpu")


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/model.safetensors")


def test_a_full_disk_while_a_result_is_written(trained: Trained, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_sync", full)
    line = refused(5, "merge", trained.pruned("smp"), "-o", "out")
    assert line == "disk full while writing out/model.safetensors; make room, or choose another --output"


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
    assert done.err.splitlines()[-1].startswith("error: disk full while writing out/model.safetensors; make room")
    assert [path.name for path in place.iterdir()] == ["out.partial"]
    assert [path.name for path in (place / "out.partial").glob("state-*")] == ["state-00000002"]
    assert run(*words, "--resume").code == 0
    assert [path.name for path in place.iterdir()] == ["out"]
