"""What a file says is checked before it costs anything: one line, code 3, at once, whatever lies there."""

import gzip
import json
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from compresskit.checkpoint.store import read_safetensors_metadata
from tests.cli.conftest import Run, Trained
from tests.listing import relisted

DEEP, DIGITS = "[" * 100_000, "1" * 5000
ASKED = ("-q", "who", "-c", "rome")


@pytest.fixture(autouse=True)
def _at_once() -> object:
    """Whatever is refused costs less than 5 seconds, and 500 MB."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of what getrusage counts in
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 512_000_000
    assert time.process_time() - start < 5


@pytest.fixture
def folder(trained: Trained, place: Path) -> Path:
    """A checkpoint of another tool: no manifest tells what its files were."""
    folder = Path(shutil.copytree(trained.dense, "dense")).absolute()
    (folder / "compresskit.json").unlink()
    return folder


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(path.name)  # the whole path may be too long for it


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nowhere(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("make", [pipe, device, nowhere, Path.mkdir])
@pytest.mark.parametrize("name", ["model.safetensors", "x.safetensors", "config.json", "x.safetensors.index.json"])
def test_what_lies_in_a_folder_is_no_file(name: str, make: Callable[[Path], None], folder: Path, refused) -> None:
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    assert refused(3, "predict", folder, *ASKED).startswith(f"{folder / name} ")


@pytest.mark.parametrize("make", [pipe, device, listening])
@pytest.mark.parametrize(
    "words",
    [
        "report FILE.json",
        "predict CKPT --input FILE.jsonl",
        "predict CKPT -q a -c b --prompt-template FILE",
        "eval CKPT --data ./FILE.json",
        "train lstm --embeddings FILE -o out --train-data demo --plan",
        "eval  compresskit.yaml",
        "eval  pyproject.toml",
    ],
)
def test_a_file_that_is_none(words: str, make, trained: Trained, place: Path, refused) -> None:
    verb, _, settings = words.partition("  ")
    names = [word for word in words.split() if "FILE" in word]
    make(place / (settings or names[0]))
    refused(3, *[trained.dense if word == "CKPT" else word for word in verb.split()])


@pytest.mark.parametrize("name", ["compresskit.json", "config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("text", [DEEP, f'{{"a": {DIGITS}}}', '{"a":' * 900 + "1" + "}" * 900], ids=["[", "1", "{"])
def test_json_that_is_too_deep_or_too_long(name: str, text: str, folder: Path, refused) -> None:
    (folder / name).write_text(text)
    assert name in refused(3, "predict", folder, *ASKED)


SETTINGS = {
    "toml deep": f"a = {DEEP}",
    "toml parts": ".".join("a" * 50_000) + " = 1",
    "toml digits": f"a = {DIGITS}",
    "toml hexadecimal": f"a = 0x{DIGITS}",
    "yaml deep": DEEP[:5000],
    "yaml digits": f"a: {DIGITS}",
    "yaml in itself": "a: &a [*a]",
    "yaml without end": "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)),
    "yaml merged": "a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_are_too_much(name: str, place: Path, refused) -> None:
    file = {"toml": "pyproject.toml", "yaml": "compresskit.yaml"}[name[:4]]
    (place / file).write_text(SETTINGS[name])
    assert refused(3, "eval").startswith(f"{file}: is not valid {name[:4].upper()} (")


@pytest.mark.parametrize(
    ("shape", "block", "ones"),
    [((1 << 20, 1 << 20), (1, 1), 1), ((60_000, 60_000), (1, 1), 0), ((8, 8), (999, 999), 3)],
)
@pytest.mark.parametrize("verb", ["predict", "inspect"])
def test_a_mask_of_another_shape(verb: str, shape, block, ones: int, trained: Trained, folder: Path, refused) -> None:
    overlay = Path(shutil.copytree(trained.pruned("smp"), "smp"))
    path = overlay / "mask.safetensors"
    metadata, words = read_safetensors_metadata(path), load_file(path)
    table = json.loads(metadata["masks"])
    table[min(table)] = {"shape": shape, "block": block, "ones": ones}
    save_file(words, path, {**metadata, "masks": json.dumps(table)})
    relisted(overlay)
    assert "does not fit its base's shape" in refused(3, verb, overlay, *(ASKED if verb == "predict" else ()))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 100_000), ("num_labels", 10**7), ("vocab_size", 10**9), ("hidden_size", 10**6)],
)
def test_a_model_that_its_files_do_not_hold(key: str, value: int, folder: Path, refused) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    refused(3, "predict", folder, *ASKED)


QUESTION = {"id": "a", "question": "q", "answers": [{"text": "rome", "answer_start": 0}]}
DATA = json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "rome", "qas": [QUESTION]}]}]}).encode()
PACKED = {
    "text": [b'{"data": [{"title": "', b"x" * 99_000_000, b'"}]}'],
    "blanks": [DATA, b" " * 99_000_000],
}


@pytest.mark.parametrize("name", PACKED)
def test_data_that_unpacks_to_too_much(name: str, trained: Trained, place: Path, refused) -> None:
    (place / "data.json.gz").write_bytes(gzip.compress(b"".join(PACKED[name]), 1))
    assert "has more than 16,000,000" in refused(3, "eval", trained.dense, "--data", "./data.json.gz")


def test_a_hole_behind_packed_data(trained: Trained, place: Path, refused) -> None:
    path = place / "data.json"
    path.write_bytes(gzip.compress(DATA))
    os.truncate(path, 1 << 31)
    assert "zeros follow the data" in refused(3, "eval", trained.dense, "--data", path)


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("report FILE", "hole.json has more than"),
        ("eval FILE --data demo", "hole.json: holds more than"),
        ("eval CKPT --data FILE", "hole.json is a file of zeros, not text; it was not written whole, fetch it again"),
        (
            "predict CKPT --input FILE",
            "hole.json is a file of zeros, not text; it was not written whole, fetch it again",
        ),
    ],
)
def test_a_file_that_is_a_hole(verb: str, told: str, trained: Trained, place: Path, run: Run) -> None:
    (place / "hole.json").touch()
    os.truncate("hole.json", 1 << 31)
    words = [{"FILE": "./hole.json", "CKPT": str(trained.dense)}.get(word, word) for word in verb.split()]
    done = run(*words)
    assert (done.code, len(done.err.splitlines())) == (3, 1), done.err
    assert told in done.err


# What else a file, or what surrounds the program, can get wrong


def test_outputs_by_their_names_whatever_the_configuration_says(folder: Path, run: Run) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "return_dict": False}))
    assert run("predict", folder, *ASKED).code == 0


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes_on_plain_weights(bits: int, folder: Path, refused) -> None:
    path = folder / "config.json"
    packing = {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": packing}))
    assert "take quantization_config out of it" in refused(3, "predict", folder, *ASKED)


def test_an_empty_special_token(folder: Path, refused) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unk_token": ""}))
    assert "names an empty text as a special token" in refused(3, "predict", folder, *ASKED)


def test_half_a_character_in_a_report(place: Path, refused) -> None:
    (place / "eval.json").write_text(r'{"schema": "\ud800"}')
    assert "half a character" in refused(3, "report", "eval.json")


def test_words_that_are_not_utf8(trained: Trained, refused) -> None:
    assert "is not UTF-8" in refused(2, "predict", trained.dense, "-q", "\udcff", "-c", "a")


def test_a_nul_in_an_output(trained: Trained, place: Path, refused) -> None:
    (place / "compresskit.yaml").write_text('checkpoints: [a]\noutput: "a\\0b"')
    assert "holds a NUL" in refused(2, "eval")


def test_a_working_folder_that_is_gone(trained: Trained, tmp_path: Path, run: Run, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = run("inspect", trained.dense)
    assert (done.code, done.err) == (2, "error: the working folder is gone; go to another with cd\n")


def test_a_home_that_is_no_folder(trained: Trained, refused, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "~x")
    assert refused(2, "inspect", trained.dense).startswith("HOME is '~x', which is no folder")


def test_words_of_the_environment_that_matplotlib_stumbles_over(trained: Trained, place: Path, run: Run, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "x")
    assert run("inspect", trained.dense, "--plot", "plot.svg").code == 0
    assert os.environ["SOURCE_DATE_EPOCH"] == "x"
