import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compresskit.errors import InputError
from compresskit.training.callbacks import EpochOrder, JsonLog
from compresskit.training.sampler import LengthGroupedSampler


def moment(step: int, epoch: float = 0.0, *, main: bool = True) -> Any:
    return SimpleNamespace(global_step=step, epoch=epoch, is_world_process_zero=main)


def call(method: Any, state: Any, **more: Any) -> None:
    method(None, state, None, **more)


@pytest.fixture
def log(tmp_path: Path) -> JsonLog:
    return JsonLog(tmp_path / "log.jsonl")


def write(log: JsonLog, *steps: int) -> None:
    for step in steps:
        call(log.on_log, moment(step, step / 10), logs={"loss": 1 / step, "learning_rate": 0.1, "remaining": 50.0})


def test_a_line_for_every_logged_step(log: JsonLog) -> None:
    call(log.on_train_begin, moment(0))
    write(log, 10, 20)
    call(log.on_log, moment(20), logs={"train_runtime": 3.0})  # the Trainer's last words are no step
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert lines == [
        {"step": step, "epoch": step / 10, "loss": 1 / step, "learning_rate": 0.1, "remaining": 50.0}
        for step in (10, 20)
    ]


@pytest.mark.parametrize(("resumed", "left"), [(0, []), (15, [10]), (20, [10, 20]), (30, [10, 20, 30])])
def test_lines_after_the_resumed_step_are_dropped(log: JsonLog, resumed: int, left: list[int]) -> None:
    write(log, 10, 20, 30)
    call(log.on_train_begin, moment(resumed))
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == left


@pytest.mark.parametrize("cut", ['{"step": 2', "{}", "[]", "3", '{"step": null}', ""])
def test_a_line_cut_by_a_crash_is_dropped(log: JsonLog, cut: str) -> None:
    write(log, 10)
    with log.path.open("a") as file:
        file.write(cut)
    call(log.on_train_begin, moment(50))
    write(log, 60)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [10, 60]


def test_a_run_too_short_for_a_line_has_an_empty_log(log: JsonLog) -> None:
    call(log.on_train_begin, moment(0))
    assert log.path.read_text() == ""


def test_a_pipe_is_no_log(log: JsonLog) -> None:
    """It would wait for ever."""
    os.mkfifo(log.path)
    with pytest.raises(InputError, match="remove it to go on"):
        call(log.on_train_begin, moment(0))


def test_other_processes_write_nothing(log: JsonLog) -> None:
    call(log.on_train_begin, moment(0, main=False))
    call(log.on_log, moment(10, main=False), logs={"loss": 1.0})
    assert not log.path.exists()


@pytest.mark.parametrize(("epoch", "expected"), [(None, 0), (0.0, 0), (0.99, 0), (1.0, 1), (2.5, 2)])
def test_the_sampler_learns_the_epoch(epoch: Any, expected: int) -> None:
    sampler = LengthGroupedSampler(np.ones(4, np.int64), 2, 0)
    call(EpochOrder(sampler).on_epoch_begin, moment(0, epoch))
    assert sampler.epoch == expected
