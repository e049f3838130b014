"""Checkpoints in turns: the order, a clock of our own, what fails, and the processes themselves."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from compresskit.data.examples import ExampleFiles
from compresskit.evaluate import machine, turns
from compresskit.evaluate.measurement import Measurement
from compresskit.evaluate.ratio import Ratio
from compresskit.evaluate.row import Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.turns import Plan, TurnFailed, in_turns, orders

LATENCY = Plan(6, frozenset({"latency_ms_p50"}))
MEMORY = Plan(6, frozenset({"peak_memory_bytes"}))


class Clock:
    """A machine on which each checkpoint takes `takes` milliseconds, times `slower` for each measurement so far."""

    def __init__(self, takes: Mapping[str, float], slower: float = 1.0, fails: Mapping[str, int] | None = None) -> None:
        self.takes, self.slower, self.fails = takes, slower, fails or {}
        self.measured: list[str] = []
        self.started: list[str] = []
        self.alive = 0
        self.most_alive = 0
        self.asked: list[tuple[int, int]] = []

    @contextmanager
    def start(self, measurement: Measurement) -> Iterator[Any]:
        clock, name = self, measurement.name

        class Runner:
            costs: ClassVar = {"peak_memory_bytes": 1000.0 * clock.takes[name], "load_s": 1.0}

            def round(self, singles: int, together: int) -> Mapping[str, float]:
                if clock.measured.count(name) == clock.fails.get(name):
                    raise TurnFailed("it broke")
                took = clock.takes[name] * clock.slower ** len(clock.measured)
                clock.measured.append(name)
                clock.asked.append((singles, together))
                return {"latency_ms_p50": took, "questions_per_s": 1000 / took}

        self.started.append(name)
        self.alive += 1
        self.most_alive = max(self.alive, self.most_alive)
        try:
            yield Runner()
        finally:
            self.alive -= 1


def a_call(tmp_path: Path, *names: str, **settings: Any) -> tuple[list[Row], list[Measurement]]:
    """Rows and measurements of checkpoints, of which the first is the baseline."""
    rows = [Row(name, name, "encoder", "-", name == names[0], questions_per_s=50.0) for name in names]
    files = ExampleFiles(("a",), "b", "c", "d")
    return rows, [Measurement(name, name, files, EvalSettings(device="cpu", **settings), tmp_path) for name in names]


def test_a_steady_machine(tmp_path: Path) -> None:
    clock = Clock({"dense": 10.0, "half": 5.0, "same": 10.0})
    rows, during = in_turns(*a_call(tmp_path, "dense", "half", "same"), LATENCY, clock.start)
    assert [row.latency_ratio for row in rows] == [Ratio(each, 0.0, 6) for each in (1.0, 0.5, 1.0)]
    assert rows[1].turns["latency_ms_p50"] == [[5.0, 10.0]] * 6
    assert rows[1].memory_ratio == Ratio(0.5, None, 1)  # each process is kept, and tells its memory once
    assert (clock.most_alive, clock.alive, len(clock.started), during) == (3, 0, 3, {})


def test_runs_of_the_baseline_are_its_mean(tmp_path: Path) -> None:
    clock = Clock({"dense-1": 8.0, "dense-2": 12.0, "half": 5.0})
    rows, measurements = a_call(tmp_path, "dense-1", "dense-2", "half")
    rows[1] = replace(rows[1], baseline=True)
    found, _ = in_turns(rows, measurements, LATENCY, clock.start)
    assert [row.latency_ratio for row in found] == [Ratio(each, 0.0, 6) for each in (0.8, 1.2, 0.5)]
    assert found[2].turns["latency_ms_p50"] == [[5.0, 10.0]] * 6

    broken = Clock({"dense-1": 8.0, "dense-2": 12.0, "half": 5.0}, fails={"dense-2": 1})
    found, _ = in_turns(rows, measurements, LATENCY, broken.start)
    assert [row.latency_ratio for row in found] == [None] * 3, "there is no mean of half a baseline"


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_that_gets_slower_all_the_time(tmp_path: Path, seed: int) -> None:
    """Each measurement takes 5 % longer than the one before; one after the other, the last would seem twice as slow."""
    clock = Clock({"dense": 10.0, "half": 5.0, "same": 10.0}, slower=1.05)
    rows, _ = in_turns(*a_call(tmp_path, "dense", "half", "same", seed=seed), LATENCY, clock.start)
    ratios = [row.latency_ratio.median for row in rows if row.latency_ratio is not None]
    assert ratios == [1.0, pytest.approx(0.5, rel=0.02), pytest.approx(1.0, rel=0.02)]
    times = [mine for mine, _ in rows[0].turns["latency_ms_p50"]]
    assert times[-1] > 1.5 * times[0]


def test_orders_are_drawn_by_the_seed_and_turned_round() -> None:
    found = list(orders(5, 6, seed=1))
    assert found == list(orders(5, 6, seed=1))
    assert found != list(orders(5, 6, seed=2))
    assert all(sorted(order) == list(range(5)) for order in found)
    assert [found[number + 1] for number in (0, 2, 4)] == [found[number][::-1] for number in (0, 2, 4)]
    assert len({tuple(order) for order in found}) == 6


def test_memory_takes_a_fresh_process_each_time(tmp_path: Path) -> None:
    clock = Clock({"dense": 10.0, "half": 5.0})
    rows, _ = in_turns(*a_call(tmp_path, "dense", "half"), MEMORY, clock.start)
    assert (clock.most_alive, len(clock.started)) == (1, 12)
    assert rows[1].memory_ratio == Ratio(0.5, 0.0, 6)
    assert set(clock.asked) == {(0, 0)}  # what is not asked for takes no time


def test_what_a_process_does_not_tell_is_paired_in_no_round(tmp_path: Path) -> None:
    """NVML may know of one process and not of the next; the rounds of the others stay beside each other."""
    clock = Clock({"dense": 10.0, "half": 5.0}, slower=2.0)

    @contextmanager
    def forgetful(measurement: Measurement) -> Iterator[Any]:
        first = clock.started.count(measurement.name) == 0
        with clock.start(measurement) as runner:
            if first and measurement.name == "half":
                runner.costs = {}
            runner.costs = {**runner.costs, "reserved_memory_bytes": float(len(clock.started) + 1 >> 1)}
            yield runner

    rows, _ = in_turns(*a_call(tmp_path, "dense", "half"), MEMORY, forgetful)
    assert rows[1].turns["peak_memory_bytes"] == [[5000.0, 10000.0]] * 5
    assert rows[1].turns["reserved_memory_bytes"] == [[each, each] for each in range(1, 7)]


@pytest.mark.parametrize(("free", "most_alive"), [(100, 1), (2000, 2), (None, 2)])
def test_what_does_not_fit_is_loaded_anew_each_round(
    free: int | None, most_alive: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    clock = Clock({"dense": 10.0, "half": 5.0})
    rows, measurements = a_call(tmp_path, "dense", "half")
    rows = [replace(row, peak_memory_bytes=1000, peak_memory_kind="rss") for row in rows]
    rows, _ = in_turns(rows, measurements, LATENCY, clock.start)
    assert clock.most_alive == most_alive
    assert rows[1].latency_ratio == Ratio(0.5, 0.0, 6)


def test_how_much_is_asked(tmp_path: Path) -> None:
    clock = Clock({"dense": 10.0, "half": 5.0})
    plan = Plan(2, frozenset({"latency_ms_p50", "questions_per_s"}))
    in_turns(*a_call(tmp_path, "dense", "half", latency_questions=9), plan, clock.start)
    in_turns(*a_call(tmp_path, "dense", "half", batch_size=64), plan, clock.start)
    assert list(dict.fromkeys(clock.asked)) == [(9, 50), (20, 64)]


def test_who_takes_no_part(tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text("{}")
    rows, measurements = a_call(tmp_path, "dense", str(answers), "broken", "half")
    rows[2] = replace(rows[2], error="it is broken")
    clock = Clock({"dense": 10.0, "half": 5.0})
    found, _ = in_turns(rows, measurements, LATENCY, clock.start)
    assert [row.latency_ratio is None for row in found] == [False, True, True, False]
    assert found[1:3] == rows[1:3]
    rows[0] = replace(rows[0], error="so is the baseline")
    assert in_turns(rows, measurements, LATENCY, clock.start) == (rows, {})


@pytest.mark.parametrize(("fails", "known"), [({"half": 3}, [True, False, True]), ({"dense": 0}, [False] * 3)])
def test_one_that_fails_has_no_ratio(
    fails: Mapping[str, int], known: list[bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock({"dense": 10.0, "half": 5.0, "same": 10.0}, fails=fails)
    rows, _ = in_turns(*a_call(tmp_path, "dense", "half", "same"), LATENCY, clock.start)
    assert [row.latency_ratio is not None for row in rows] == known
    told = f"warning: {next(iter(fails))} cannot be measured in turns, and has no ratio: it broke\n"
    assert told in capsys.readouterr().err


# A worker that loads nothing, and says a number for each round.
FAKE = """
import json, sys
name = json.loads(sys.stdin.readline())["ref"]
if name == "killed":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
if name == "broken":
    print(json.dumps({"error": "it is broken; mend it"}), flush=True)
    sys.exit(3)
print(json.dumps({"load_s": 0.5, "reserved_memory_bytes": None}), flush=True)
for number, line in enumerate(sys.stdin, 1):
    print(json.dumps({"latency_ms_p50": number + json.loads(line)["singles"]}), flush=True)
"""


def test_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "fake_turn.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setattr(turns, "_WORKER", "fake_turn")
    rows, _ = in_turns(*a_call(tmp_path, "dense", "half", "killed", "broken"), Plan(2, LATENCY.figures))
    assert rows[1].turns == {"load_s": [[0.5, 0.5]] * 2, "latency_ms_p50": [[21.0, 21.0]] * 2}
    told = capsys.readouterr().err
    assert "killed cannot be measured in turns, and has no ratio: its process was ended by SIGKILL" in told
    assert "broken cannot be measured in turns, and has no ratio: it is broken; mend it" in told
    rows, _ = in_turns(*a_call(tmp_path, "dense", "half"), Plan(3, LATENCY.figures))
    assert rows[1].turns == {"load_s": [[0.5, 0.5]], "latency_ms_p50": [[each, each] for each in (21.0, 22.0, 23.0)]}


def test_ratios_pass_through_json(tmp_path: Path) -> None:
    clock = Clock({"dense": 10.0, "half": 5.0})
    row = in_turns(*a_call(tmp_path, "dense", "half"), LATENCY, clock.start)[0][1]
    assert json.loads(json.dumps(row.to_dict()))["latency_ratio"] == {"median": 0.5, "spread": 0.0, "rounds": 6}
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row
