"""Signals: one line, code 130, no process left and no folder, whatever was going on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compresskit.cli.app import main
from tests.cli.conftest import Trained
from tests.contract import makers

ROOT = str(Path(__file__).resolve().parents[2])
# A verb that tells when it is at work, and waits.
WAITS = """
import sys, time
from compresskit.cli import app

@app.app.command()
def wait() -> None:
    try:
        print("ready", file=sys.stderr, flush=True)
        time.sleep(30)
    finally:
        time.sleep(0.2)  # what is tidied up
        print("tidy", file=sys.stderr, flush=True)

sys.exit(app.main(["wait"]))
"""
# The command `eval`, whose worker is a program that takes long to import, or measures for ever.
EVAL = """
import sys
from compresskit.cli.app import main
from compresskit.evaluate import process

process._WORKER = "worker_that_waits"
sys.exit(main(sys.argv[1:]))
"""
WORKER = """
import os, time
from pathlib import Path
Path(os.environ["STARTED"]).write_text(f"{os.getpid()} {os.environ['TMPDIR']}")
time.sleep(float(os.environ["IMPORTING"]))
from compresskit.evaluate import worker
def run(measurement):
    Path(os.environ["TMPDIR"], "left").mkdir()
    Path(os.environ["STARTED"] + "-at-work").touch()
    time.sleep(30)
worker.run = run
raise SystemExit(worker.main())
"""


def start(program: str, *words: str, **more: Any) -> "subprocess.Popen[str]":
    """A program in a group of its own, as a shell starts it."""
    environment = {**os.environ, "PYTHONPATH": ROOT, **more.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ([signal.SIGINT], "error: interrupted"),
        ([signal.SIGTERM], "error: interrupted by SIGTERM"),
        ([signal.SIGHUP], "error: interrupted by SIGHUP"),
        ([signal.SIGTERM, signal.SIGHUP, signal.SIGTERM], "error: interrupted by SIGTERM"),
    ],
)
def test_a_signal_is_one_line_and_what_is_begun_is_tidied_up(numbers: list[int], line: str) -> None:
    with start(WAITS) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.03)
        shown = process.communicate(timeout=20)
    assert (process.returncode, *shown) == (130, "", f"tidy\n{line}\n")


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under `nohup`."""
    with start("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITS) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[1] == "tidy\nerror: interrupted by SIGTERM\n"


def test_the_commands_own_import_is_interrupted_by_one_line() -> None:
    program = "import sys\nfrom compresskit.__main__ import main\nsys.modules['typer'] = {}\n"
    program += "class Slow:\n    def find_spec(self, name, *_):\n"
    program += "        if name == 'compresskit.cli.app': raise KeyboardInterrupt\n"
    program += "sys.meta_path.insert(0, Slow())\nsys.exit(main())"
    with start(program) as process:
        shown = process.communicate(timeout=20)
    assert (process.returncode, *shown) == (130, "", "error: interrupted\n")


@pytest.fixture
def evaluating(tmp_path: Path) -> Iterator[Callable[[float], "subprocess.Popen[str]"]]:
    """Start `eval` with a worker that takes so many seconds to import; temporary files are in `tmp_path/tmp`."""
    for name in ("path", "tmp", "checkpoint"):
        (tmp_path / name).mkdir()
    (tmp_path / "path" / "worker_that_waits.py").write_text(WORKER)
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    makers.data(tmp_path / "data.json")
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"")
    started: list[subprocess.Popen[str]] = []

    def command(importing: float) -> "subprocess.Popen[str]":
        variables = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'path'}", "TMPDIR": str(tmp_path / "tmp")}
        variables |= {"STARTED": str(tmp_path / "started"), "IMPORTING": str(importing)}
        words = ["eval", str(tmp_path / "checkpoint"), "--data", str(tmp_path / "data.json"), "--no-cache"]
        started.append(start(EVAL, *words, env=variables, cwd=tmp_path))
        return started[-1]

    yield command
    for process in started:
        if process.poll() is None:
            process.kill()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("importing", "number"),
    [
        (5.0, signal.SIGINT),
        (0.0, signal.SIGKILL),
        *(pytest.param(0.0, number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGTERM)),
        *(pytest.param(5.0, number, marks=pytest.mark.slow) for number in (signal.SIGKILL, signal.SIGABRT)),
    ],
)
def test_a_worker_and_its_files_end_with_the_command(
    importing: float, number: signal.Signals, tmp_path: Path, evaluating: Callable[[float], "subprocess.Popen[str]"]
) -> None:
    """The terminal's Ctrl-C reaches all processes; SIGKILL and SIGABRT the command alone."""
    process = evaluating(importing)
    until(lambda: (tmp_path / "started").exists() and (tmp_path / "started").read_text())
    pid, folder = (tmp_path / "started").read_text().split()
    if not importing:
        until((tmp_path / "started-at-work").exists)
    assert Path(folder).is_relative_to(tmp_path / "tmp")
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, shown = process.communicate(timeout=30)
    lines = {signal.SIGINT: "error: interrupted\n", signal.SIGTERM: "error: interrupted by SIGTERM\n"}
    told, _, ended = shown.partition("loading torch and transformers, in a process of its own\n")
    assert (told, ended) == ("checkpoint: ", lines.get(number, ""))
    assert process.returncode == (130 if number in lines else -number)
    until(lambda: not is_running(int(pid)), 8)
    until(lambda: not list((tmp_path / "tmp").iterdir()), 8)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_training_goes_on_after_a_signal(number: signal.Signals, trained: Trained, tmp_path: Path) -> None:
    program = "import sys\nfrom compresskit.cli.app import main\nsys.exit(main(sys.argv[1:]))"
    short = ["--max-length", "128", "--stride", "32", "--device", "cpu", "--batch-size", "8", "--train-data"]
    words = ["train", str(trained.dense), *short, str(trained.root / "demo-train.json"), "--save-steps", "3"]
    words += ["--max-steps", "60", "-o", str(tmp_path / "out")]
    process = start(program, *words)
    until(lambda: list((tmp_path / "out.partial").glob("state-*")), 120)
    process.send_signal(number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    assert main(["-q", *words, "--resume"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    steps = json.loads((tmp_path / "out" / "compresskit.json").read_text())["steps"]
    assert steps[-1]["metrics"]["steps"] == 60
