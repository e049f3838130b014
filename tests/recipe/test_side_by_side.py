"""Steps side by side: their order, their processes, and what becomes of those where one fails or all are interrupted.

The processes are real, but what they make is played: importing torch takes seconds. `tests/cli/test_run.py` has a run.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compresskit.errors import InputError, RunFailed
from compresskit.recipe import side_by_side
from compresskit.recipe.recipe import read_recipe
from compresskit.recipe.side_by_side import in_order, made_side_by_side, threads_of_each
from compresskit.recipe.state import Workplace
from compresskit.recipe.worker import _sendable

# Two chains, and one step that stands alone.
RECIPE = """
steps:
  - {name: alone, base: demo/bert, method: train}
  - {name: short, base: demo/t5, method: train}
  - {name: long, base: demo/bert, method: train}
  - {name: int8, base: short, method: quantize}
  - {name: smp, base: long, method: prune, options: {distill: true, teacher: short}}
  - {name: smp-int8, base: smp, method: quantize}
"""
# The worker, whose steps do what the variable ACTS says of them, and tell it in a file.
PLAYS = """
import json, os, signal, sys, time
from compresskit.errors import InputError
from compresskit.importing import watched
from compresskit.recipe import worker

def make(place, checkpoint):
    name, acts = checkpoint.name, json.loads(os.environ["ACTS"])
    def tell(what):
        with open(place.folder / "told", "a") as file:
            file.write(f"{what} {name} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")
    def wait_for(what):
        while what not in (place.folder / "told").read_text():
            time.sleep(0.005)
    tell("begin")
    act, _, other = acts.get(name, "").partition(" ")
    try:
        if act == "after":
            wait_for(f"{other} ")
        if act == "waits":
            time.sleep(60)
        if act == "fails":
            wait_for("begin long ")
            raise InputError(f"step {name}: broken")
        if act in ("SIGKILL", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, act))
            time.sleep(60)
    finally:
        tell("end")
    return act != "kept"

worker.make = make
raise SystemExit(worker._Worker(int(sys.argv[1])).main())
"""

Play = Callable[..., tuple[int, list[list[str]]]]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    (tmp_path / "lab.yaml").write_text(RECIPE)
    return Workplace(read_recipe(tmp_path / "lab.yaml"), tmp_path)


@pytest.fixture
def play(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Make the steps, each as it is told to act; how many are kept, and what they told. No process is left then."""
    (place.folder / "worker_that_plays.py").write_text(PLAYS)
    monkeypatch.setenv("PYTHONPATH", str(place.folder), prepend=os.pathsep)
    monkeypatch.setattr(side_by_side, "_WORKER", "worker_that_plays")

    def played(jobs: int, **acts: str) -> tuple[int, list[list[str]]]:
        monkeypatch.setenv("ACTS", json.dumps({name.replace("_", "-"): act for name, act in acts.items()}))
        return made_side_by_side(place, jobs), told(place)

    yield played
    for line in told(place):
        with pytest.raises(ProcessLookupError):
            os.kill(int(line[2]), 0)


def told(place: Workplace) -> list[list[str]]:
    return [line.split() for line in (place.folder / "told").read_text().splitlines()]


def test_what_the_longest_chain_waits_for_comes_first(place: Workplace) -> None:
    assert [each.name for each in in_order(place)] == ["short", "long", "smp", "alone", "int8", "smp-int8"]


@pytest.mark.parametrize(("told", "jobs", "each"), [("6", 2, 3), ("1", 4, 1), ("3,2", 2, 1), ("", 3, 4)])
def test_threads_are_shared(told: str, jobs: int, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "cpus", lambda: 12)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert threads_of_each(jobs) == each


def test_steps_go_side_by_side_once_their_inputs_are_there(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes make all of it; `long` ends after what can go beside it, and `smp` waits for both of its inputs."""
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    kept, lines = play(2, short="after begin long", long="after end int8", int8="kept")
    assert kept == 1
    begun = [name for what, name, *_ in lines if what == "begin"]
    assert sorted(begun[:2]) == ["long", "short"]
    assert sorted(begun) == sorted(["alone", "short", "long", "int8", "smp", "smp-int8"])
    at = {(what, name): number for number, (what, name, *_) in enumerate(lines)}
    assert at["end", "long"] < at["begin", "smp"] < at["end", "smp"] < at["begin", "smp-int8"]
    assert at["begin", "int8"] < at["end", "long"], "it does not wait for another chain"
    assert len({line[2] for line in lines}) == 2
    assert {line[3] for line in lines} == {"4"}


def test_a_step_that_fails_ends_the_others_and_is_told(play: Play, place: Workplace) -> None:
    with pytest.raises(InputError) as caught:
        play(2, short="fails", long="waits")
    assert str(caught.value) == "step short: broken"
    assert "Traceback" in caught.value.__notes__[0]
    assert [line[:2] for line in told(place)][-1] == ["end", "long"], "it was interrupted, and tidied up"
    assert not [line for line in told(place) if line[1] in ("smp", "int8")]


def test_a_process_that_crashes_is_told(play: Play) -> None:
    with pytest.raises(RunFailed, match=r"^step short: its process was ended by SIGKILL"):
        play(1, short="SIGKILL")


def test_a_process_that_is_ended_interrupts_the_run(play: Play, place: Workplace) -> None:
    """Whoever ends a job signals all of its processes; whichever hears it first."""
    with pytest.raises(KeyboardInterrupt):
        play(1, short="SIGTERM")
    assert told(place)[-1][0] == "end"


def test_an_interruption_ends_all_of_them(play: Play, place: Workplace) -> None:
    def interrupt() -> None:
        while not (place.folder / "told").exists() or len(told(place)) < 2:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        play(2, short="waits", long="waits")
    thread.join()
    assert time.monotonic() - began < side_by_side._SECONDS_TO_END
    assert sorted(line[:2] for line in told(place)) == [
        ["begin", "long"],
        ["begin", "short"],
        ["end", "long"],
        ["end", "short"],
    ]


def test_an_error_that_cannot_be_sent_is_told_in_words() -> None:
    class Local(Exception):
        pass

    sent = _sendable(Local("broken"), "dense")
    assert isinstance(sent, RunFailed)
    assert str(sent) == "step dense: Local: broken"
    assert _sendable(kept := ValueError("broken"), "dense") is kept
