"""Collecting all answers, and what the worker measures on the way: with a family that looks answers up."""

import json
from pathlib import Path

from compresskit.data import demo
from compresskit.data.load import load as load_data
from compresskit.evaluate import worker
from compresskit.evaluate.collect import collect_answers, largest
from compresskit.evaluate.measurement import PREDICTIONS_FILE, Measurement
from compresskit.evaluate.row import Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.shard import Group, Shard
from compresskit.models.answering import AnswerOptions
from tests.evaluate.look_up import LookUp, loaded

ALONE = Group(Shard())


def measured(tmp_path: Path, family: LookUp, settings: EvalSettings) -> Row:
    path, _ = demo.write(tmp_path, demo.DemoConfig(train_questions=30, eval_questions=10))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    questions = load_data(str(path), "eval").select(range(10))
    measurement = Measurement("ref", "name", questions.files(), settings, tmp_path)
    outcome = worker.measure_checkpoint(measurement, loaded(folder, family), questions, ALONE, {})
    assert outcome.row is not None
    assert outcome.weights_digest is not None
    assert outcome.answers_digest is not None
    assert list(outcome.question_em) == list(outcome.question_f1) == [1.0] * 10
    return outcome.row


def test_the_row_of_a_checkpoint(tmp_path: Path) -> None:
    family = LookUp()
    row = measured(tmp_path, family, EvalSettings(batch_size=4, latency_questions=4, warmup_questions=2))
    assert (row.name, row.path, row.family, row.method) == ("name", "ref", "look-up", "-")
    assert (row.em, row.f1, row.has_ans_em) == (100.0,) * 3
    assert (row.params_total, row.disk_bytes, row.deploy_bytes) == (16, 10, 10)
    assert (row.delta_em, row.delta_em_ci95, row.p_value, row.error) == (None,) * 4
    assert row.latency_ms_p50 is not None
    assert row.latency_ms_p95 is not None
    assert 0 < row.latency_ms_p50 <= row.latency_ms_p95
    assert row.questions_per_s is not None
    assert row.questions_per_s > 0
    assert row.peak_memory_kind in ("rss", None)
    # Two questions to warm up, four spread over the set, each alone; then a batch to warm up, then all.
    order = [question for question, _ in family.asked[10:]]
    assert family.asked[:6] == [(order[index], 1) for index in (0, 2, 0, 2, 5, 7)]
    assert family.asked[6:10] == [(question, 4) for question in order[:4]]
    assert family.asked[10:] == [(question, 4) for question in order]
    assert list(json.loads((tmp_path / PREDICTIONS_FILE).read_text(encoding="utf-8"))) == order
    assert len(order) == 10


def test_repetitions_ask_everything_again_and_score_once(tmp_path: Path) -> None:
    family = LookUp()
    settings = EvalSettings(batch_size=4, latency_questions=3, warmup_questions=0, repeat=3)
    row = measured(tmp_path, family, settings)
    assert len(family.asked) == 3 * 3 + 3 * 10
    assert row.questions_per_s_range is not None
    assert row.em == 100.0


def test_latency_is_not_measured_where_not_asked_for(tmp_path: Path) -> None:
    row = measured(tmp_path, LookUp(), EvalSettings(latency_questions=0))
    assert (row.latency_ms_p50, row.latency_ms_p95) == (None, None)


def test_the_time_of_the_sinks_does_not_count(tmp_path: Path) -> None:
    import time

    path, _ = demo.write(tmp_path, demo.DemoConfig(train_questions=30, eval_questions=10))
    asked = load_data(str(path), "eval").select(range(5))
    sinks = (lambda *_: time.sleep(0.05),)
    rate = collect_answers(ALONE, loaded(tmp_path, LookUp()), asked, AnswerOptions(), sinks, "ask")
    assert rate > 5 / 0.25  # the sinks alone took a quarter of a second


def test_most_of_what_is_known() -> None:
    assert largest(ALONE, {"load_s": 0.5, "peak_memory_bytes": None}) == {"load_s": 0.5, "peak_memory_bytes": None}
