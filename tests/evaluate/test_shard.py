"""Splitting an evaluation: in this process, and over two real ones that meet through gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import InputError, UsageError
from compresskit.evaluate.shard import Group, Shard

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE")

# Every process of the launcher runs the scenarios one after the other, each in a new process, as an evaluation does.
RANKS = """
import json, os, signal, sys, time
import torch.distributed  # here, so that the new processes need not: it takes seconds
from compresskit.errors import InputError
from compresskit.evaluate.shard import Group, Shard

def work(scenario, group, rank):
    if scenario == "fault" and rank == 1:
        raise InputError("a broken\\nthing \\u00e9\\ud800")
    if scenario == "crash" and rank == 1:
        raise ValueError("a bug")
    if scenario == "odd" and rank == 1:
        group.gather(sys.stdin)  # nothing that can be sent
    if scenario == "crash":
        time.sleep(0.3)  # told before this one asks
    if scenario == "killed" and rank == 1:
        time.sleep(0.3)  # the other one waits by then
        os.kill(os.getpid(), signal.SIGKILL)
    first = group.gather({"rank": rank, "text": "\\u00e9\\ud800" * 10 ** (5 * rank), "odd": [float("inf"), 0.1, None]})
    if scenario == "between" and rank == 1:
        raise InputError("after one of two")
    second = group.gather((rank, 1 << 60))
    if scenario == "late" and rank == 1:
        raise InputError("when nobody asks any more")
    return first, second

def main(scenarios, report):
    shard = Shard.from_environment()
    for index, scenario in enumerate(scenarios):
        if os.fork():
            os.wait()
            continue
        said = {"scenario": scenario, "rank": shard.rank}
        start = time.perf_counter()
        try:
            if scenario == "absent" and shard.rank == 1:
                os._exit(0)
            timeout = 1.0 if scenario == "absent" else 20.0
            # "again" is a second evaluation: it counts from the beginning.
            number = 0 if scenario == "again" else index
            with Group(shard, number, join_seconds=timeout, gather_seconds=20.0) as group:
                said["got"] = work(scenario, group, shard.rank)
        except Exception as error:
            said["error"] = [type(error).__name__, str(error)]
        said["seconds"] = time.perf_counter() - start
        with open(f"{report}-{scenario}-{shard.rank}.json", "w") as file:
            json.dump(said, file)
        os._exit(0)

main(sys.argv[2:], sys.argv[1])
"""


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_parts_are_runs_that_cover_all_once(n: int, world: int) -> None:
    parts = [Shard(rank, world, 0).part(n) for rank in range(world)]
    assert [index for part in parts for index in part] == list(range(n))
    assert {len(part) for part in parts} <= {n // world, -(-n // world)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Shard(0, 1, 0)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, Shard(0, 1, 0)),
        ({"WORLD_SIZE": "", "RANK": "3"}, Shard(0, 1, 0)),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, Shard(3, 4, 1)),
        ({"WORLD_SIZE": "2", "RANK": "1"}, Shard(1, 2, 1)),
    ],
)
def test_the_place_comes_from_the_environment(monkeypatch, values: dict[str, str], expected: Shard) -> None:
    set_environment(monkeypatch, **values)
    assert Shard.from_environment() == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"WORLD_SIZE": "2"}, r"RANK=''.*torchrun"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE='two'"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK='-1'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 of WORLD_SIZE=2"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE=0"),
    ],
)
def test_an_environment_that_cannot_be_is_one_line(monkeypatch, values: dict[str, str], said: str) -> None:
    set_environment(monkeypatch, **values)
    with pytest.raises(UsageError, match=said) as caught:
        Shard.from_environment()
    assert "\n" not in str(caught.value)


def test_no_place_to_meet_is_one_line(monkeypatch) -> None:
    set_environment(monkeypatch, WORLD_SIZE="2", RANK="0")
    with pytest.raises(UsageError, match="MASTER_PORT=''"), Group(Shard(0, 2, 0)):
        pass


def test_a_single_process_gathers_its_own(monkeypatch) -> None:
    set_environment(monkeypatch)
    with Group(Shard(), 0) as group:
        assert group.gather({"a": (1, float("inf")), "b": None}) == [{"a": (1, float("inf")), "b": None}]
    with pytest.raises(InputError, match="own"), Group(Shard(), 1):
        raise InputError("its own")


SCENARIOS = ("good", "fault", "crash", "odd", "between", "late", "killed", "absent", "again")


def check(outcomes: dict[tuple[str, int], dict[str, Any]], scenarios: tuple[str, ...]) -> None:
    for scenario in scenarios:
        expected = {
            "good": ([None, None], True),
            "again": ([None, None], True),
            "fault": (["InputError", "InputError"], False),
            "crash": (["PeerFailed", "ValueError"], False),
            "odd": (["PeerFailed", "TypeError"], False),
            "between": (["InputError", "InputError"], False),
            "late": ([None, "InputError"], False),
            "killed": (["PeerFailed", None], False),
            "absent": (["PeerFailed", None], False),
        }[scenario]
        both = [outcomes.get((scenario, rank), {}) for rank in (0, 1)]
        assert [one.get("error", [None])[0] for one in both] == expected[0], (scenario, both)
        assert all(one.get("seconds", 0) < 10 for one in both), scenario
        if expected[1]:
            values = [
                {"rank": 0, "text": "é\ud800", "odd": [float("inf"), 0.1, None]},
                {"rank": 1, "text": "é\ud800" * 10**5, "odd": [float("inf"), 0.1, None]},
            ]
            assert all(one["got"] == [values, [[0, 1 << 60], [1, 1 << 60]]] for one in both)
    assert outcomes["fault", 0]["error"][1] == "a broken thing é\ud800"
    assert outcomes["crash", 0]["error"][1] == "process 1 of the evaluation failed: ValueError: a bug"
    assert "\n" not in outcomes["killed", 0]["error"][1]


def outcomes_in(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    said = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {(one["scenario"], one["rank"]): one for one in said}


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def free_port(run: int) -> int:
    """A port that is free, and so are the `run - 1` after it."""
    while True:
        with socket.socket() as first:
            first.bind(("localhost", 0))
            port: int = first.getsockname()[1]
            try:
                for following in range(port + 1, port + run):
                    with socket.socket() as other:
                        other.bind(("localhost", following))
            except OSError:
                continue
            return port


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")


@needs_fork
def test_two_processes_started_by_hand(tmp_path: Path) -> None:
    port = free_port(len(SCENARIOS))
    running = []
    for rank in "01":
        place = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        command = [sys.executable, "-c", RANKS, str(tmp_path / "said"), *SCENARIOS]
        running.append(subprocess.Popen(command, env={**clean_environment(), **place}))
    try:
        assert [process.wait(60) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
    check(outcomes_in(tmp_path), SCENARIOS)


@needs_fork
def test_two_processes_started_by_torchrun(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    subprocess.run([*command, str(tmp_path / "said"), *SCENARIOS], env=clean_environment(), check=True, timeout=120)
    check(outcomes_in(tmp_path), SCENARIOS)
