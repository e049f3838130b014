"""`data check` and `data convert` as a person types them: what is printed, written and refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compresskit.cli.app import main
from compresskit.data import reading
from compresskit.data.load import load
from tests.cli.conftest import Run
from tests.tiny import checkpoint

CONTEXT = "rome is the capital of italy . oslo is the capital of norway ."
QUESTION = "what is the capital of italy ?"


def write(name: str, *answers: tuple[str, Any], context: str = CONTEXT) -> Path:
    rows = [
        {"id": f"q{number}", "context": context, "question": f"{QUESTION} {number}", "answers": [answer]}
        for number, answer in enumerate({"text": text, "answer_start": start} for text, start in answers)
    ]
    Path(name).write_text(json.dumps(rows))
    return Path(name)


def test_data_without_a_fault(place: Path, run: Run) -> None:
    done = run("data", "check", write("set.json", ("rome", 0), ("oslo", 31)))
    assert (done.code, done.err) == (0, "set.json can be trained on and scored without loss\n")
    assert "questions   2, of which 0 have no answer\n" in done.out
    assert "answers     2 questions with 1\n" in done.out
    assert "\n\n" not in done.out


def test_data_with_faults(place: Path, run: Run) -> None:
    data = write("set.json", *[("rome", 7)] * 3, ("paris", 0))
    done = run("data", "check", data, "--show", "2", "-o", "all.json")
    told = "answers that stand nowhere in their context: 1"
    assert (done.code, done.err.startswith(f"error: set.json cannot be used without loss ({told}); ")) == (3, True)
    assert "row 1, question 'q1': answer 0, 'rome', does not stand at 'answer_start' 7; it stands at 0" in done.out
    assert "… and 1 more" in done.out
    as_json = run("data", "check", data, "--json")
    assert as_json.code == 3
    whole = json.loads(as_json.out)
    assert json.loads(Path("all.json").read_text()) == whole
    assert [each["kind"] for each in whole["findings"]] == ["nearest"] * 3 + ["nowhere"]
    assert (whole["counts"], whole["usable"]) == ({"nowhere": 1, "nearest": 3}, False)


def test_mended_offsets_are_no_loss(place: Path, run: Run) -> None:
    assert run("data", "check", write("set.json", ("rome", 7))).code == 0


def test_overlap_with_other_data(place: Path, run: Run) -> None:
    one, other = write("one.json", ("rome", 0), ("oslo", 31)), write("other.json", ("rome", 0))
    whole = json.loads(run("data", "check", one, "--against", other, "--json").out)
    assert whole["overlap"] == {"against": "other.json", "questions": 1, "paragraphs": 1}
    other.write_text("nothing")
    assert run("data", "check", one, "--against", other).out == ""


def test_lengths_in_tokens(place: Path, run: Run) -> None:
    model = checkpoint(place / "model")
    data = write("set.json", ("rome", 0), ("capital of italy", 12), context=f"{CONTEXT} " * 3)
    words = ("data", "check", data, "--model", model, "--max-length", "48", "--stride", "4", "--json")
    tokens = json.loads(run(*words, "--max-answer-length", "2").out)["tokens"]
    assert tokens["context"] == {"median": 42.0, "p95": 42.0, "most": 42}
    assert tokens["answer"]["most"] == 3
    assert (tokens["too_long"], tokens["model"]) == (1, str(model))
    room = 48 - 3 - tokens["question"]["most"]
    assert tokens["windows"] == {"all": 4, "of_a_question": {"median": 2.0, "p95": 2.0, "most": 2}}
    assert room < 42 <= 2 * room - 4
    told = run(*words[:-1])
    assert "windows     4 at --max-length 48 --stride 4; of a question: median 2" in told.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "set.json", "--stride", "8"], "--stride 8 has no effect without --model"),
        (["check", "set.json", "--split", "eval"], "--split eval has no effect with a file"),
        (["check", "set.json", "-o", "set.json"], "--output set.json is set.json, which is read"),
        (["check", "set.json", "--against", "set.json", "-o", "set.json"], "which is read"),
        (["convert", "set.json", "set.json"], "OUT set.json is set.json, which is read"),
        (["convert", "set.json", "out.csv"], "end it in .json, .json.gz, .parquet"),
        (["convert", "set.json", "no/out.json"], "there is no folder no; make it first"),
        (["convert", "set.json", "out.json", "--split", "train"], "--split train has no effect with a file"),
    ],
)
def test_what_is_refused(words: list[str], said: str, place: Path, refused) -> None:
    write("set.json", ("rome", 0))
    assert said in refused(2, "data", *words)


def test_an_unknown_file(place: Path, refused) -> None:
    assert "none.json: no such file" in refused(3, "data", "check", "none.json")
    assert "none.json: no such file" in refused(3, "data", "convert", "none.json", "out.json")


def test_a_set_is_replaced_where_that_is_asked_for(place: Path, run: Run, refused) -> None:
    data = write("set.json", ("rome", 0), ("oslo", 0))
    Path("out.json").write_text("before")
    line = refused(2, "data", "convert", data, "out.json")
    assert line.startswith("OUT out.json is there already; pass --overwrite")
    done = run("-q", "data", "convert", data, "out.json", "--overwrite")
    assert (done.code, done.out) == (0, "")
    assert [each.answers[0].start for each in load("out.json", "train", "stop")] == [0, 31]


def test_what_becomes_of_bad_data(place: Path, run: Run) -> None:
    data = write("set.json", ("rome", 0), ("oslo", 0), ("paris", 0))
    for way, ids in (("mend", ["q0", "q1"]), ("skip", ["q0"])):
        assert main(["-q", "data", "convert", str(data), f"{way}.parquet", "--bad-data", way]) == 0
        assert [each.id for each in reading.read(Path(f"{way}.parquet"), None, "stop")] == ids
    done = run("data", "convert", data, "stop.json", "--bad-data", "stop")
    assert (done.code, Path("stop.json").exists()) == (3, False)
    assert "row 1, question 'q1': answer 0: 'oslo' does not stand" in done.err


def test_a_folder_with_splits(place: Path, run: Run) -> None:
    Path("set").mkdir()
    write("set/train.json", ("rome", 0))
    write("set/dev.json", ("rome", 0), ("oslo", 2))
    for split, count in (("train", 1), ("eval", 2)):
        whole = json.loads(run("data", "check", "set", "--split", split, "--against", "set", "--json").out)
        assert (whole["split"], whole["questions"], whole["overlap"]["questions"]) == (split, count, 1)
        assert run("data", "convert", "set", f"{split}.json", "--split", split).code == 0
        assert len(load(f"{split}.json", "train", "stop")) == count


def test_without_a_model_nothing_heavy_is_imported(place: Path) -> None:
    write("set.json", ("rome", 0))
    program = (
        "import sys\nfrom compresskit.cli.app import main\n"
        "verbs = ['check', 'set.json'], ['convert', 'set.json', 'out.json'], ['convert', 'set.json', 'out.parquet']\n"
        "found = [(main(['-q', 'data', *words]), 'pandas' in sys.modules) for words in verbs]\n"
        "assert found == [(0, False), (0, False), (0, True)], found\n"  # a row of Parquet is made by way of it
        "sys.exit(str({'torch', 'transformers', 'datasets', 'accelerate'} & sys.modules.keys() or 'none'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "none\n"
