"""The real worker on a tiny real checkpoint, in its own process."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compresskit.data.load import load as load_data
from compresskit.errors import InputError
from compresskit.evaluate.evaluate import evaluate
from compresskit.evaluate.job import EvalSettings
from compresskit.evaluate.score import score
from compresskit.models.family import Prediction

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
    settings = replace(SETTINGS, predictions_dir=tmp_path / "predictions")
    report = evaluate([str(checkpoint)], data, settings, baseline=str(checkpoint))
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
    assert row.latency_ms_p50
    assert row.questions_per_s
    assert report.device["kind"] == "cpu"
    assert sorted(checkpoint.iterdir()) == before

    texts = json.loads((tmp_path / "predictions" / "tiny.json").read_text(encoding="utf-8"))
    found = {key: Prediction(key, text, None, None, text) for key, text in texts.items()}
    rescored = score(load_data(data, "eval"), found)
    assert (row.em, row.f1, row.no_ans_em) == (rescored.em, rescored.f1, rescored.no_ans_em)


def test_a_damaged_checkpoint_is_one_line_and_not_a_row(data: str, checkpoint: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in checkpoint.iterdir():
        content = path.read_bytes()
        (damaged / path.name).write_bytes(content[:200] if path.suffix == ".safetensors" else content)
    with pytest.raises(InputError, match="damaged") as caught:
        evaluate([str(damaged)], data, SETTINGS)
    assert "\n" not in str(caught.value)
