"""The real worker on a tiny real checkpoint, in its own process."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from compresskit import console
from compresskit.cli.app import main
from compresskit.data import demo
from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.evaluate.evaluate import Extras, evaluate
from compresskit.evaluate.gate import gated, parse
from compresskit.evaluate.measurement import Measurement
from compresskit.evaluate.report.against import ratios
from compresskit.evaluate.report.table import columns_of, notes
from compresskit.evaluate.row import Report
from compresskit.evaluate.score import score
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.timed import plan_of
from compresskit.evaluate.turns import Plan
from compresskit.models.answering import Prediction
from compresskit.models.kinds import fingerprint
from tests.here import measuring_here

CONTEXT = "Rome is the capital of Italy. It lies on the Tiber, and its people like figs."
QUESTIONS = [
    ("What lies on the Tiber?", "Rome"),
    ("What is Rome the capital of?", "Italy"),
    ("What do its people like?", "figs"),
    ("Who built Rome?", None),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    entries = []
    for index, (question, answer) in enumerate(QUESTIONS):
        answers = [] if answer is None else [{"text": answer, "answer_start": CONTEXT.index(answer)}]
        entries.append({"id": f"q{index}", "question": question, "answers": answers, "is_impossible": not answers})
    article = {"title": "Rome", "paragraphs": [{"context": CONTEXT, "qas": entries}]}
    path = tmp_path_factory.mktemp("data") / "eval.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [article]}), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of one layer, 8 wide, whose first linear layer is all zeros."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer

    text = " ".join([CONTEXT, *(question for question, _ in QUESTIONS)])
    words = {word.strip("?.,").lower() for word in text.split()}
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", *sorted(words)]
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    model = BertForQuestionAnswering(config)
    torch.nn.init.zeros_(model.get_parameter("bert.encoder.layer.0.intermediate.dense.weight"))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}).save_pretrained(folder)
    return folder


SETTINGS = EvalSettings(max_length=64, stride=16, latency_questions=2, warmup_questions=1, device="cpu")


def test_a_real_checkpoint_is_measured_in_a_process_of_its_own(
    data: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the user stands there may be anything; the worker must not import it.
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = sorted(checkpoint.iterdir())
    extras = Extras(predictions=tmp_path / "predictions")
    report = evaluate([str(checkpoint)], data, SETTINGS, baseline=str(checkpoint), extras=extras)
    (row,) = report.rows

    from transformers import AutoModelForQuestionAnswering

    model = AutoModelForQuestionAnswering.from_pretrained(checkpoint)
    assert row.error is None
    assert (row.name, row.family, row.method) == ("tiny", "encoder", "-")
    assert (row.baseline, row.delta_em) == (True, 0.0)
    total = sum(parameter.numel() for parameter in model.parameters())
    zero = sum(int((parameter == 0).sum()) for parameter in model.parameters())
    assert zero >= 8 * 16
    assert (row.params_total, row.params_nonzero) == (total, total - zero)
    assert row.disk_bytes == sum(path.stat().st_size for path in before)
    assert row.deploy_bytes is not None
    assert 0 < row.deploy_bytes <= row.disk_bytes
    if sys.platform == "linux":
        assert row.peak_memory_kind == "rss"
        assert row.peak_memory_bytes is not None
        assert row.peak_memory_bytes > 50_000_000  # torch alone is more
        assert row.load_memory_bytes is not None
        assert row.load_memory_bytes > 50_000_000
    assert row.load_s
    assert row.zstd_bytes is not None
    assert 0 < row.zstd_bytes < row.deploy_bytes
    assert row.sha256 == fingerprint(str(checkpoint))
    assert (row.null_threshold, row.questions_per_s_range, row.reserved_memory_bytes) == (0.0, None, None)
    assert row.manifest is None
    assert row.latency_ms_p50
    assert row.questions_per_s
    assert report.device["kind"] == "cpu"
    assert sorted(checkpoint.iterdir()) == before

    texts = json.loads((tmp_path / "predictions" / "tiny.json").read_text(encoding="utf-8"))
    found = {key: Prediction(key, text, None, None, text) for key, text in texts.items()}
    rescored = score(load_data(data, "eval"), found)
    assert (row.em, row.f1, row.no_ans_em) == (rescored.em, rescored.f1, rescored.no_ans_em)


WHAT_IS_IMPORTED_BEFORE_LOADING = """
import sys
from compresskit.evaluate import worker
from compresskit.evaluate.measurement import Measurement
from compresskit.models import registry

def load(*_, **__):
    print("transformers.models.auto.modeling_auto" in sys.modules)
    sys.exit()

registry.load = load
worker.run(Measurement.from_json(sys.stdin.read()))
"""


def test_the_time_of_loading_is_not_that_of_importing(data: str, checkpoint: Path, tmp_path: Path) -> None:
    examples = load_data(data, "eval")
    measurement = Measurement(str(checkpoint), "tiny", examples.files(), SETTINGS, tmp_path)
    command = [sys.executable, "-c", WHAT_IS_IMPORTED_BEFORE_LOADING]
    run = subprocess.run(command, input=measurement.to_json(), capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"


@pytest.mark.usefixtures("measured_here")
def test_a_damaged_checkpoint_is_a_row_with_one_line(data: str, checkpoint: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in checkpoint.iterdir():
        content = path.read_bytes()
        (damaged / path.name).write_bytes(content[:200] if path.suffix == ".safetensors" else content)
    (row,) = evaluate([str(damaged)], data, SETTINGS).rows
    assert row.error is not None
    assert "damaged" in row.error
    assert "\n" not in row.error
    assert row.error_code == 3


@pytest.mark.usefixtures("measured_here")
def test_timing_is_repeated(data: str, checkpoint: Path) -> None:
    (row,) = evaluate([str(checkpoint)], data, replace(SETTINGS, repeat=3)).rows
    assert row.questions_per_s_range is not None
    least, most = row.questions_per_s_range
    assert 0 < least <= (row.questions_per_s or 0) <= most


@pytest.mark.usefixtures("measured_here")
def test_answers_in_a_file_are_scored_without_a_model(data: str, checkpoint: Path, tmp_path: Path) -> None:
    extras = Extras(predictions=tmp_path)
    (scored,) = evaluate([str(checkpoint)], data, SETTINGS, extras=extras).rows
    answers = tmp_path / "answers.json"
    answers.write_text((tmp_path / "tiny.json").read_text())
    report = evaluate([str(answers), str(checkpoint)], data, SETTINGS, baseline=str(checkpoint))
    row = report.rows[0]
    assert (row.name, row.method, row.family, row.error) == ("answers.json", "predictions", "-", None)
    assert (row.em, row.f1, row.no_ans_em, row.delta_em, row.p_value) == (scored.em, scored.f1, scored.no_ans_em, 0, 1)
    assert (row.params_total, row.latency_ms_p50, row.deploy_bytes, row.best_em) == (None,) * 4
    assert row.disk_bytes == answers.stat().st_size


@pytest.mark.usefixtures("measured_here")
def test_answers_that_do_not_fit_are_a_row_with_the_reason(data: str, checkpoint: Path, tmp_path: Path) -> None:
    some, broken = tmp_path / "some.json", tmp_path / "broken.json"
    some.write_text('{"q0": "Rome", "other": "?"}')
    broken.write_text("{")
    first, second, third = evaluate([str(some), str(broken), str(checkpoint)], data, SETTINGS).rows
    assert "3 of 4 questions have no prediction" in (first.error or "")
    assert "cannot be read as JSON" in (second.error or "")
    assert (first.error_code, second.error_code, third.error) == (3, 3, None)


@pytest.mark.usefixtures("measured_here")
def test_the_null_threshold_is_tuned_on_other_data(data: str, checkpoint: Path, tmp_path: Path) -> None:
    """The threshold is the best one there, whatever would have suited the questions that are scored."""
    other = tmp_path / "tune.json"
    text = Path(data).read_text(encoding="utf-8")
    other.write_text(text.replace("its people like", "its people love"), encoding="utf-8")
    (there,) = evaluate([str(checkpoint)], str(other), SETTINGS).rows
    (tuned,) = evaluate([str(checkpoint)], data, replace(SETTINGS, null_threshold="auto", tune_data=str(other))).rows
    assert tuned.null_threshold == pytest.approx(there.best_null_threshold)
    assert tuned.null_threshold is not None
    (kept,) = evaluate([str(checkpoint)], str(other), replace(SETTINGS, null_threshold=tuned.null_threshold)).rows
    assert kept.em == there.best_em  # it does give what was promised there
    assert tuned.null_threshold is not None
    (given,) = evaluate([str(checkpoint)], data, replace(SETTINGS, null_threshold=tuned.null_threshold)).rows
    assert (given.em, given.f1) == (tuned.em, tuned.f1)


@pytest.mark.usefixtures("measured_here")
def test_data_are_read_once_by_the_parent_alone(
    data: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is gone by the time that the workers start; with it or without, the row is the same."""
    text = Path(data).read_text(encoding="utf-8")
    sources = tmp_path / "eval.json", tmp_path / "tune.json"
    for source, people in zip(sources, ("like", "love"), strict=True):
        source.write_text(text.replace("its people like", f"its people {people}"), encoding="utf-8")
    settings = replace(SETTINGS, null_threshold="auto", tune_data=str(sources[1]))
    anew = Extras(use_cache=False)
    (expected,) = evaluate([str(checkpoint)], str(sources[0]), settings, extras=anew).rows
    read: list[str] = []

    def read_and_remove(ref: str, split: Literal["train", "eval"], keep: Sequence[str] = ()) -> ExampleSet:
        found = load_data(ref, split, keep=keep)
        Path(ref).unlink()
        read.append(ref)
        return found

    monkeypatch.setattr("compresskit.evaluate.evaluate.load_data", read_and_remove)
    rows = evaluate([str(checkpoint)], str(sources[0]), settings, names=["one"], extras=anew).rows
    assert [row.error for row in rows] == [None]
    assert read == [str(source) for source in sources]
    assert (rows[0].em, rows[0].f1, rows[0].null_threshold) == (expected.em, expected.f1, expected.null_threshold)


@pytest.mark.usefixtures("measured_here")
def test_answers_in_a_file_cannot_be_tuned(data: str, tmp_path: Path) -> None:
    answers, other = tmp_path / "answers.json", tmp_path / "tune.json"
    answers.write_text("{}")
    other.write_text(Path(data).read_text(encoding="utf-8").replace("figs", "nuts"), encoding="utf-8")
    (row,) = evaluate([str(answers)], data, replace(SETTINGS, null_threshold="auto", tune_data=str(other))).rows
    assert "none to those of --tune-data; leave the file out" in (row.error or "")


@pytest.mark.usefixtures("measured_here")
def test_a_limit_takes_whole_paragraphs(checkpoint: Path, tmp_path: Path) -> None:
    path, _ = demo.write(tmp_path, demo.DemoConfig(train_questions=90, eval_questions=10))
    settings = replace(SETTINGS, limit=20, seed=3, max_length=64, stride=8)
    report = evaluate([str(checkpoint)], str(path), settings, extras=Extras(predictions=tmp_path))
    whole = load_data(str(path), "eval")
    asked = set(json.loads((tmp_path / "tiny.json").read_text()))
    assert (report.dataset.sampled_from, report.dataset.seed) == (len(whole), 3)
    assert 0 < report.dataset.questions == len(asked) <= 20
    touched = {example.paragraph for example in whole if example.id in asked}
    assert asked == {example.id for example in whole if example.paragraph in touched}


def test_two_processes_give_the_answers_of_one(data: str, checkpoint: Path, tmp_path: Path) -> None:
    """As a launcher starts them: each with its rank, meeting at a port."""
    one, two = tmp_path / "one", tmp_path / "two"
    command = ["-q", "eval", str(checkpoint), "--data", data, "--device", "cpu"]
    command += ["--max-length", "64", "--stride", "16", "--gate", "latency<=1000s", "--format", "csv", "--no-cache"]
    root = str(Path(__file__).resolve().parents[2])
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]

    def words(folder: Path) -> list[str]:
        return [*command, "--predictions", str(folder), "-o", str(tmp_path / f"{folder.name}.json")]

    def start(rank: int) -> subprocess.Popen[str]:
        meeting = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        environment = {**os.environ, "PYTHONPATH": root, **meeting}
        program = [sys.executable, "-m", "compresskit", *words(two)]
        return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True)

    ranks = [start(rank) for rank in range(2)]
    with measuring_here():
        assert main(words(one)) == 0
    console.configure()
    shown = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert shown[0].count("\n") == 2
    assert shown[1] == ""  # the first process speaks for all
    assert (one / "tiny.json").read_bytes() == (two / "tiny.json").read_bytes()
    reports = [Report.from_json((tmp_path / name).read_text()) for name in ("one.json", "two.json")]
    figures = [(row.em, row.f1, row.best_em, row.em_ci95) for report in reports for row in report.rows]
    assert figures[0] == figures[1]


def test_two_checkpoints_in_turns(
    data: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kept rows are measured anew for their ratios, and stay kept: no figure of theirs is judged."""
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    call = ([str(checkpoint), str(copy)], data, SETTINGS, str(checkpoint))
    figures = frozenset({"latency_ms_p50", "questions_per_s"})
    with measuring_here():
        first = evaluate(*call)
        report = evaluate(*call, extras=Extras(turns=Plan(4, figures)))
    assert [row.kept for row in report.rows] == [True, True]
    assert "tiny, copy: measured in turns, 4 rounds\n" in capsys.readouterr().err
    assert set(report.device["load"]) == {"before", "after"}
    base, row = report.rows
    assert base.latency_ms_p50 == first.rows[0].latency_ms_p50
    for ratio in (row.latency_ratio, row.rate_ratio):
        assert ratio is not None
        assert (ratio.rounds, 0.01 < ratio.median < 100.0) == (4, True)
    assert {"load_s", "latency_ms_p95", "questions_per_s"} <= set(row.turns)
    assert Report.from_json(report.to_json()).rows == report.rows
    told = "\n".join(notes(report))
    grid = ratios(report)
    assert grid is not None
    assert [line[:2] for line in grid.lines] == [["copy", "4"]]
    assert "time and memory from an earlier call, which no gate judges: tiny (" in told
    assert "p50\n/base" in [column.heading for column in columns_of(report)]
    assert not {"p50\n/base"} & {column.heading for column in columns_of(first)}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux")
def test_two_checkpoints_in_turns_each_in_fresh_processes(data: str, checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    rules = [parse("memory<=1.2x"), parse("latency<=9x|+1s")]
    extras = Extras(turns=plan_of(rules, 2))
    report = evaluate([str(checkpoint), str(copy)], data, SETTINGS, str(checkpoint), extras=extras)
    row = report.rows[1]
    assert row.memory_ratio is not None
    assert row.memory_ratio.rounds == 2
    assert row.memory_ratio.median == pytest.approx(1.0, rel=0.1)
    assert 50_000_000 < (row.library_memory_bytes or 0) < (row.peak_memory_bytes or 0)
    assert gated(report, rules).passed
