"""Asking a loaded checkpoint, and what the worker measures on it: with a family that looks answers up."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import nn

from compresskit.data.examples import Answer, Example
from compresskit.errors import InputError, RunFailed
from compresskit.evaluate import predict, worker
from compresskit.evaluate.job import EvalSettings, Job
from compresskit.models.family import AnswerOptions, LoadedModel, Prediction


class LookUp:
    """Answers with the gold text, and remembers in what batches it was asked."""

    name = "look-up"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def answer(self, loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
        for example in examples:
            self.asked.append((example.id, options.batch_size))
            text = example.answers[0].text if example.answers else ""
            yield Prediction(example.id, text, 2.0, 1.0 if text else 3.0, text or "span")


def loaded(folder: Path, family: LookUp) -> LoadedModel:
    (folder / "model.bin").write_bytes(b"x" * 10)
    fake = SimpleNamespace(
        model=nn.Linear(3, 4),
        family=family,
        path=folder,
        manifest=None,
        device=torch.device("cpu"),
        deploy_files=lambda: [folder / "model.bin", folder / "model.bin"],
    )
    return cast(LoadedModel, fake)


def examples(count: int) -> list[Example]:
    golds = [(Answer("Rome", 0),) if index % 2 else () for index in range(count)]
    return [Example(f"q{i}", "", "where?", "Rome.", gold, not gold, i) for i, gold in enumerate(golds)]


def test_predictions_keep_the_order(tmp_path: Path) -> None:
    family = LookUp()
    found = list(predict.predictions(loaded(tmp_path, family), examples(7), AnswerOptions(batch_size=3)))
    assert [prediction.id for prediction in found] == [f"q{index}" for index in range(7)]


def test_one_question(tmp_path: Path) -> None:
    family = LookUp()
    found = predict.answer_one(loaded(tmp_path, family), "where?", "Rome.", AnswerOptions(batch_size=8))
    assert found.text == ""
    assert family.asked == [("question", 1)]
    for question, context in (("", "Rome."), ("where?", " \n")):
        with pytest.raises(InputError, match="is empty"):
            predict.answer_one(loaded(tmp_path, family), question, context, AnswerOptions())


def job(tmp_path: Path, settings: EvalSettings, predictions: Path | None = None) -> Job:
    return Job("ref", "name", "data", settings, tmp_path / "outcome.json", predictions)


def test_the_row_of_a_checkpoint(tmp_path: Path) -> None:
    family = LookUp()
    settings = EvalSettings(batch_size=4, latency_questions=4, warmup_questions=2)
    target = tmp_path / "new" / "predictions.json"
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    row, _ = worker.measured(
        job(tmp_path, settings, target), loaded(folder, family), examples(10), AnswerOptions(batch_size=4)
    )
    assert (row.name, row.path, row.family, row.method) == ("name", "ref", "look-up", "-")
    assert (row.em, row.f1, row.has_ans_em, row.no_ans_em, row.best_em) == (100.0,) * 5
    assert (row.params_total, row.disk_bytes, row.deploy_bytes) == (16, 10, 10)
    assert (row.delta_em, row.delta_em_ci95, row.p_value, row.error) == (None,) * 4
    assert row.latency_ms_p50 is not None
    assert row.latency_ms_p95 is not None
    assert 0 < row.latency_ms_p50 <= row.latency_ms_p95
    assert row.questions_per_s is not None
    assert row.questions_per_s > 0
    assert row.peak_memory_kind in ("rss", None)
    # Two questions to warm up, four spread over the set, each alone; then a batch to warm up, then all.
    assert family.asked[:6] == [(f"q{index}", 1) for index in (0, 2, 0, 2, 5, 7)]
    assert family.asked[6:10] == [(f"q{index}", 4) for index in range(4)]
    assert family.asked[10:] == [(f"q{index}", 4) for index in range(10)]
    texts = json.loads(target.read_text(encoding="utf-8"))
    assert texts == {f"q{index}": "Rome" if index % 2 else "" for index in range(10)}


def test_latency_is_not_measured_where_not_asked_for(tmp_path: Path) -> None:
    settings = EvalSettings(latency_questions=0)
    row, _ = worker.measured(job(tmp_path, settings), loaded(tmp_path, LookUp()), examples(2), AnswerOptions())
    assert (row.latency_ms_p50, row.latency_ms_p95) == (None, None)


def test_predictions_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunFailed, match=r"out\.json: cannot be written") as caught:
        worker.write_predictions(tmp_path / "file" / "out.json", {})
    assert "\n" not in str(caught.value)
