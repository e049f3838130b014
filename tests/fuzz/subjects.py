"""The subjects of the fuzzer: a tiny folder of every kind that the program reads, and the verbs that read it.

A new kind of file is a new line of `SUBJECTS`: who makes it, which of its files are damaged, and the command lines.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import shlex
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pyarrow
import zstandard
from pyarrow import parquet
from transformers import AutoModelForQuestionAnswering

from compresskit.cli.app import main
from tests import tiny
from tests.contract import makers
from tests.contract.test_mamba import checkpoint as mamba

SHORT = "--max-steps 1 --max-length 48 --stride 8 --batch-size 4 --train-data data.json --device cpu"
ASK = "-q 'what is the capital of italy ?' -c 'rome is the capital of italy .' --max-length 48 --stride 8 --device cpu"
MEASURE = "--data data.json --max-length 48 --stride 8 --limit 6 --device cpu --format json"
SCORE = "eval answers.json --data data.json --format json"


@dataclass(frozen=True)
class Subject:
    """Files to damage, and who reads them.

    `make` fills the folder in which it is called. `damaged` are globs of the files that mutations are tried on. `verbs`
    are command lines; they may leave the names `LEFT` where they succeed. What is not `quick` takes seconds to make.
    """

    make: Callable[[], object]
    damaged: tuple[str, ...]
    verbs: tuple[str, ...]
    quick: bool = True


LEFT = ("out", "out.json", "eval.json.new", "page.html", "gates.xml")


def run(words: str) -> None:
    """Run the command line where a subject is made; it has to succeed."""
    code = main(["-q", *shlex.split(words)])
    if code != 0:
        raise RuntimeError(f"compresskit {words} ended with code {code}")


def _dense() -> None:
    makers.data(Path("data.json"))
    tiny.checkpoint(Path("bert"))
    run(f"train bert -o dense {SHORT}")
    shutil.rmtree("bert")


def _made(words: str) -> Callable[[], None]:
    """A dense checkpoint, and what a command line makes of it."""

    def make() -> None:
        _dense()
        run(words)

    return make


def _parts() -> None:
    makers.data(Path("data.json"))
    tiny.checkpoint(Path("parts"))
    model = AutoModelForQuestionAnswering.from_pretrained("parts")
    Path("parts/model.safetensors").unlink()
    model.save_pretrained("parts", max_shard_size="12KB")


def _coded() -> None:
    _made(f"prune dense -o mask --method magnitude {SHORT}")()
    run("quantize mask -o coded")


def _family(make: Callable[[Path], Path]) -> Callable[[], None]:
    def both() -> None:
        makers.data(Path("data.json"))
        make(Path("model"))

    return both


def _prompt() -> None:
    _family(makers.seq2seq)()
    prompt = {"template": "{question} {context}", "unanswerable": "no", "stop": ["."], "lead": " "}
    Path("prompt.json").write_text(json.dumps(prompt))


def _answers() -> None:
    """Data, and a file of answers, half of them right; both also compressed."""
    makers.data(Path("data.json"))
    answers = {f"q{number}": "rome" if number % 2 else "" for number in range(20)}
    for name, text in (("data.json", Path("data.json").read_text()), ("answers.json", json.dumps(answers))):
        Path(name).write_text(text)
        Path(f"{name}.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _rows() -> None:
    """The same answers, and the data as rows: CSV, Parquet, packed JSON lines, and a zip."""
    _answers()
    rows = [
        {**asked, "context": one["context"]}
        for article in json.loads(Path("data.json").read_text())["data"]
        for one in article["paragraphs"]
        for asked in one["qas"]
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    Path("rows.zst").write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))
    with zipfile.ZipFile("rows.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.json", json.dumps(rows))
    flat = [{key: row[key] for key in ("id", "context", "question", "answers")} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(flat), "rows.parquet")
    with Path("rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows({**row, "answers": json.dumps(row["answers"])} for row in flat)


def _report() -> None:
    _answers()
    Path("others.json").write_text(Path("answers.json").read_text().replace("rome", "paris"))
    gate = "--gate 'disk_bytes<=9x' --allow-weak-baseline"
    run(f"{SCORE} others.json --baseline answers.json -o eval.json --show-flips 2 {gate}")


def _limits() -> None:
    """A report with a baseline that is always right, and a row that has one answer of five wrong."""
    makers.data(Path("data.json"))
    gold = {
        asked["id"]: next((answer["text"] for answer in asked["answers"]), "")
        for article in json.loads(Path("data.json").read_text())["data"]
        for one in article["paragraphs"]
        for asked in one["qas"]
    }
    wrong = {key: "sea" if number % 5 == 0 else text for number, (key, text) in enumerate(gold.items())}
    Path("answers.json").write_text(json.dumps(wrong))
    Path("gold.json").write_text(json.dumps(gold))
    run(f"{SCORE} --baseline gold.json -o eval.json")


def _cache() -> None:
    _answers()
    run(SCORE)


def _recipe() -> None:
    _dense()
    steps = "{name: int8, base: dense, method: quantize}, {name: plain, base: int8, method: merge}"
    Path("lab.yaml").write_text(f"about: int8\nsteps: [{steps}]\n")
    run("run lab.yaml -o made")


def _yaml() -> None:
    _answers()
    lines = (
        "eval:",
        "  checkpoints: ['answers*.json']",
        "  data: data.json",
        "  gates:",
        "    - em>=0",
        "  format: json",
    )
    Path("compresskit.yaml").write_text("\n".join(lines) + "\n")


def _toml() -> None:
    _answers()
    table = '[tool.compresskit.eval]\ncheckpoints = ["answers.json"]\ndata = "data.json"\ngates = ["em>=0"]\n'
    Path("pyproject.toml").write_text(f'[project]\nname = "x"\n\n{table}format = "json"\n')


def _vectors() -> None:
    makers.data(Path("data.json"))
    rows = [f"{word} {' '.join(str((len(word) * place) % 7 / 7) for place in range(1, 6))}" for word in tiny.WORDS]
    Path("words.vec").write_text(f"{len(rows)} 5\n" + "\n".join(rows) + "\n")
    shutil.copyfile(Path(makers.__file__).parents[1] / "models" / "lstm" / "fasttext.bin", "fasttext.bin")


def _questions() -> None:
    _dense()
    line = {"id": "1", "question": "what is the capital of italy ?", "context": "rome is the capital of italy ."}
    Path("questions.jsonl").write_text(f"{json.dumps(line)}\n" * 3)


def _interrupted() -> None:
    """A training that was interrupted after its first step, with its workspace `out.partial`."""
    makers.data(Path("data.json"))
    tiny.checkpoint(Path("bert"))
    words = shlex.split(f"-q train bert -o out {RESUMED}")
    with (
        mock.patch("compresskit.methods.run.finish", side_effect=KeyboardInterrupt),
        Path(os.devnull).open("w") as nowhere,
        mock.patch("sys.stderr", nowhere),
    ):
        main(words)


RESUMED = SHORT.replace("--max-steps 1", "--max-steps 2 --save-steps 1")

WHOLE = (f"predict {{}} {ASK}", "inspect {}", f"eval {{}} {MEASURE}")
OVERLAY = (*WHOLE, "merge {} -o out")
DENSE = (*WHOLE, f"train {{}} -o out {SHORT}", f"prune {{}} -o out {SHORT} --plan", "quantize {} -o out")


def _on(folder: str, verbs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(words.replace("{}", folder) for words in verbs)


SUBJECTS: dict[str, Subject] = {
    "dense": Subject(_dense, ("dense/*",), _on("dense", DENSE)),
    "parts": Subject(_parts, ("parts/*",), _on("parts", WHOLE)),
    "mask": Subject(
        _made(f"prune dense -o mask --method magnitude {SHORT}"), ("mask/*", "dense/*"), _on("mask", OVERLAY)
    ),
    "blocks": Subject(
        _made(f"prune dense -o mask --method magnitude --block 4x4 {SHORT}"),
        ("mask/*",),
        _on("mask", OVERLAY),
        quick=False,
    ),
    "adapter": Subject(
        _made(f"lora dense -o adapter --rank 2 {SHORT}"), ("adapter/*", "dense/*"), _on("adapter", OVERLAY)
    ),
    "int8": Subject(_made("quantize dense -o int8"), ("int8/*",), _on("int8", OVERLAY), quick=False),
    "coded": Subject(_coded, ("coded/*",), _on("coded", OVERLAY), quick=False),
    "nf4": Subject(
        _made("quantize dense --bits 4 --backend bitsandbytes -o nf4"), ("nf4/*",), _on("nf4", WHOLE), quick=False
    ),
    "onnx": Subject(_made("export dense --onnx -o onnx"), ("onnx/*",), _on("onnx", WHOLE), quick=False),
    "lstm": Subject(_family(makers.lstm), ("model/*",), _on("model", DENSE)),
    "t5": Subject(_family(makers.seq2seq), ("model/*",), _on("model", DENSE)),
    "mamba": Subject(_family(lambda folder: mamba("mamba", folder)), ("model/*",), _on("model", DENSE)),
    "data": Subject(
        _dense,
        ("data.json",),
        (f"train dense -o out {SHORT}", f"prune dense -o out {SHORT} --plan", f"eval dense {MEASURE}"),
    ),
    "answers": Subject(
        _answers,
        ("answers.json*", "data.json*"),
        (
            SCORE,
            f"{SCORE} -o eval.json.new --junit gates.xml",
            "eval answers.json.gz --data data.json.gz --format json",
        ),
    ),
    "rows": Subject(
        _rows,
        ("rows.*",),
        (
            *(f"eval answers.json --data rows.{end} --format json" for end in ("csv", "parquet", "zst", "zip")),
            *(f"data check rows.{end} --against data.json" for end in ("csv", "parquet", "zst", "zip")),
            "data convert rows.csv out.json",
        ),
        quick=False,
    ),
    "report": Subject(
        _report,
        ("eval.json",),
        ("report eval.json --format json", "report eval.json --format csv", "report eval.json --html page.html"),
    ),
    "limits": Subject(_limits, ("eval.json",), ("gates derive eval.json", "gates derive eval.json --row answers.json")),
    "cache": Subject(_cache, ("cache/eval/*/*",), (SCORE, "cache ls --format json")),
    "prompt": Subject(
        _prompt,
        ("prompt.json",),
        (
            f"predict model --prompt-template prompt.json {ASK}",
            f"train model -o out --prompt-template prompt.json {SHORT}",
        ),
    ),
    "recipe": Subject(
        _recipe,
        ("lab.yaml", "made/*.json", "made/int8/*"),
        ("recipes validate lab.yaml", "recipes show lab.yaml", "run lab.yaml -o made --plan"),
        quick=False,
    ),
    "yaml": Subject(_yaml, ("compresskit.yaml",), ("eval",)),
    "toml": Subject(_toml, ("pyproject.toml",), ("eval",)),
    "vectors": Subject(
        _vectors,
        ("words.vec", "fasttext.bin"),
        tuple(
            f"train lstm -o out --embeddings {name} {SHORT} {more}"
            for name in ("words.vec", "fasttext.bin")
            for more in ("", "--plan")
        ),
    ),
    "questions": Subject(_questions, ("questions.jsonl",), ("predict dense --input questions.jsonl --device cpu",)),
    "resume": Subject(
        _interrupted, ("out.partial/*", "out.partial/*/*"), (f"train bert -o out {RESUMED} --resume",), quick=False
    ),
}
