"""Tries in processes: what crashes, hangs or prints is told, and the next goes on."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from compresskit.doctor import processes
from compresskit.doctor.processes import Outcome, outcomes

STUB = """
import json, os, signal, subprocess, sys, time
name = sys.argv[1]
if name == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
elif name == "hang":
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True,
          file=open(os.environ["TMPDIR"] + "/grandchild", "w"))
    time.sleep(60)
elif name == "quit":
    sys.exit(3)
elif name == "noise":
    print("no JSON")
else:
    print(json.dumps({"did": name, "facts": {"at": time.monotonic()}, "seconds": 0.1}))
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stub_child.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(processes, "_CHILD", "stub_child")
    return tmp_path


def test_a_crash_is_told_and_the_next_goes_on(stub: Path) -> None:
    found = list(outcomes(["crash", "quit", "noise", "fine"], stub, 2))
    assert [each.reason for each in found] == [
        "its process crashed (SIGSEGV)",
        "its process ended with exit code 3",
        "its process ended with exit code 0",
        None,
    ]
    assert (found[-1].did, found[-1].seconds) == ("fine", 0.1)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state[:1] in ("", "Z")  # nobody has asked how it ended


def test_what_hangs_ends_with_all_that_it_started(stub: Path) -> None:
    found = list(outcomes(["hang", "fine"], stub, 2, limit=1))
    assert (found[0].reason, found[1].did) == ("no answer within 1 s", "fine")
    pid = int((stub / "grandchild").read_text())
    for _ in range(50):
        if gone(pid):
            break
        time.sleep(0.05)
    assert gone(pid)


def test_who_stops_early_leaves_no_process(stub: Path) -> None:
    tries = outcomes(["fine", "hang"], stub, 2)
    assert next(tries).did == "fine"
    while not (stub / "grandchild").is_file() or not (stub / "grandchild").read_text().strip():
        time.sleep(0.02)
    before = time.monotonic()
    tries.close()
    assert time.monotonic() - before < 5


def test_the_real_process_says_what_a_try_did_or_why_not(tmp_path: Path) -> None:
    did, unknown = outcomes(["PyYAML", "nothing"], tmp_path, 2)
    assert (did.did, did.reason) == ("YAML read", None)
    assert unknown == Outcome("", {}, "KeyError: 'nothing'", unknown.seconds)
