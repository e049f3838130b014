"""Mends that work: options that an error asks to change, to add or to leave out; with that the same words pass."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Trained
from tests.cli.mends import commands_in, follow

PLAN = ("--plan", "--max-steps", "1", "--device", "cpu", "--train-data", "TRAIN")
ASKED = ("-q", "Who?", "-c", "Ada wrote it.", "--device", "cpu")
EVAL = ("eval", "DENSE", "--data", "EVAL", "--no-cache", "--device", "cpu")
CALIBRATED = ("quantize", "DENSE", "--plan", "--train-data", "TRAIN", "--calibrate")


@dataclass(frozen=True)
class Case:
    """Words that are refused with an exit code, what the line says of the mend, and the words that it leads to."""

    refused: Sequence[str]
    told: str
    mended: Callable[[re.Match[str]], Sequence[str]]
    code: int


def case(words: Sequence[str], more: str, told: str, mended: str = "", code: int = 2) -> Case:
    r"""`more` is added to the words and refused; `mended` in its place passes, with `\1` for what the line names."""
    return Case((*words, *more.split()), told, lambda found: (*words, *found.expand(mended).split()), code)


TRAIN, LORA, PRUNE = (("train", "DENSE", *PLAN), ("lora", "DENSE", *PLAN), ("prune", "DENSE", *PLAN))
CASES = {
    "longer than the model reads": case(
        TRAIN, "--max-length 600", r"the (\d+) tokens that .* reads; lower it", r"--max-length \1"
    ),
    "no room: a longer window": case(
        TRAIN, "--max-length 32 --stride 31", r"raise --max-length to (\d+)", r"--max-length \1 --stride 31"
    ),
    "no room: a shorter stride": case(
        TRAIN, "--max-length 32 --stride 31", r"lower --stride to (\d+)", r"--max-length 32 --stride \1"
    ),
    "no room, whatever the stride": case(
        TRAIN, "--max-length 20 --stride 0", r"raise --max-length to (\d+) or more$", r"--max-length \1 --stride 0"
    ),
    "two lengths of training": case(TRAIN, "--epochs 2", "leave it out"),
    "a teacher of nothing": case(TRAIN, "--teacher DENSE", "no effect without (--distill)", r"--teacher DENSE \1"),
    "no such optimizer": case(TRAIN, "--optimizer adam", "is not one of (\\w+)", r"--optimizer \1"),
    "settings of a built model": case(TRAIN, "--hidden-size 5", "leave it out"),
    "no GPU": case(TRAIN, "--device cuda", "use (--device cpu)", r"\1", code=4),
    "a BiLSTM's frozen vectors": case(("train", "lstm", *PLAN), "--freeze-embeddings", "or drop it"),
    "a BiLSTM's rare words": case(
        ("train", "lstm", *PLAN), "--min-count 9999", "lower --min-count", "--min-count 2", code=3
    ),
    "no such targets": case(LORA, "--targets nope", r"it has .*; take of these, or ([\w-]+)", r"--targets \1"),
    "no such targets, one of its own": case(LORA, "--targets nope", r"it has \w+, (\w+)", r"--targets \1"),
    "two ways to begin: the one": case(LORA, "--init pissa --dora", "leave one of them out", "--init pissa"),
    "two ways to begin: the other": case(LORA, "--init pissa --dora", "leave one of them out", "--dora"),
    "a rank too high": case(LORA, "--init pissa --rank 1000", "--rank 1000 .*lower it", "--init pissa --rank 8"),
    "a block that divides nothing": case(PRUNE, "--block 7x7", "choose a --block that divides it", "--block 8x8"),
    "nothing to prune": case(("prune", "demo/bert", *PLAN), "", "or add (--distill)", r"\1"),
    "4 bits": case(("quantize", "DENSE", "--plan"), "--bits 4", "give (--backend bitsandbytes)", r"--bits 4 \1"),
    "less than one question": case(
        CALIBRATED, "20 --max-loss 0.5", r"give --calibrate (\d+) or more", r"\1 --max-loss 0.5"
    ),
    "all matrices kept": case(CALIBRATED, "20 --keep-top 999", r"has (\d+) matrices .* less", "20 --keep-top 1"),
    "two bounds on a loss": case(
        CALIBRATED, "200 --max-loss 1 --keep-top 1", "leave one of them out", "200 --max-loss 1"
    ),
    "half a question": case(("predict", "DENSE"), "-q Who?", r"give a question and a passage", "-q Who? -c Ada."),
    "no baseline": case(
        EVAL,
        "--gate em>=base-100",
        "name it with (--baseline)",
        r"--gate em>=base-100 --allow-weak-baseline \1 SMP",
    ),
    "a seed of nothing": case(EVAL, "--seed 3", "no effect without (--limit)", r"--seed 3 \1 9"),
    "an interval of nothing": case(
        EVAL, "--gate-ci", "give a (--gate)", r"--gate-ci --baseline SMP --allow-weak-baseline \1 em>=base-100"
    ),
    "flips from nothing": case(EVAL, "--show-flips 3", "leave it out"),
    "half of a null threshold": case(
        EVAL, "--null-threshold auto", "give both", "--null-threshold auto --tune-data TRAIN"
    ),
    "no such format": case(EVAL, "--format yaml", r"is not one of .*(json)", r"--format \1"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_option(name: str, trained: Trained, place: Path, run: Run, measured_here: None) -> None:
    words = {
        "DENSE": str(trained.dense),
        "SMP": str(trained.pruned("smp")),
        "EVAL": str(trained.eval_data),
        "TRAIN": str(trained.root / "demo-train.json"),
    }
    asked = CASES[name]
    refused = run(*(words.get(word, word) for word in asked.refused))
    assert refused.code == asked.code, refused.err
    found = re.search(asked.told, refused.err.strip())
    assert found, refused.err
    done = run(*(words.get(word, word) for word in asked.mended(found)))
    assert done.code == 0, done.err


def test_what_is_trained_from_its_data(trained: Trained, place: Path, run: Run) -> None:
    refused = run("predict", "lstm", *ASKED)
    assert refused.code == 2
    follow(refused.err.replace("`, and give that", ""), run, trained)
    assert run("predict", "runs/lstm-train", *ASKED).code == 0


def test_a_place_that_is_taken(trained: Trained, place: Path, run: Run) -> None:
    shutil.copytree(trained.dense, "taken")
    words = ("merge", trained.pruned("smp"), "-o")
    refused = run(*words, "taken")
    assert (refused.code, "pass --overwrite, or choose another with -o" in refused.err) == (2, True), refused.err
    assert run(*words, "taken", "--overwrite").code == 0
    assert run(*words, "another").code == 0


def test_weights_in_8_bits(trained: Trained, place: Path, run: Run) -> None:
    assert run("quantize", trained.dense, "-o", "int8").code == 0
    refused = run("train", "int8", *trained.short)
    assert (refused.code, "merge too where it is int8" in refused.err) == (3, True), refused.err
    assert run("merge", "int8").code == 0
    assert run("train", "int8-merged", "--plan", *trained.short).code == 0


@pytest.mark.slow  # bitsandbytes is imported
def test_an_adapter_on_weights_in_8_bits(trained: Trained, place: Path, run: Run) -> None:
    assert run("quantize", trained.dense, "-o", "int8").code == 0
    refused = run("lora", "int8", *trained.short)
    assert refused.code == 3
    (words,) = commands_in(refused.err)
    assert run(words[0], trained.dense, *words[1:], "-o", "packed").code == 0
    assert run("lora", "packed", "--plan", *trained.short).code == 0
