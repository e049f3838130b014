"""A command line in a fork of this warm process, with limits: what it printed, how it ended, what it took.

The imports are done before, once: a case then takes a tenth of a second instead of several.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import resource
import signal
import sys
import time
import traceback
import weakref
from dataclasses import dataclass
from pathlib import Path

from compresskit.cli.app import main
from compresskit.evaluate import process as evaluation
from compresskit.evaluate import worker
from compresskit.evaluate.measurement import Measurement

WALL_SECONDS = 10.0
ADDRESS_SPACE = 2 << 30
"""Bytes above those of the imports; a file that is mapped counts too, and takes no memory."""
FILE_SIZE = 64 << 20


@dataclass(frozen=True)
class Ended:
    """What a process printed, its exit code (or what ended it), seconds of a processor, bytes above the imports."""

    out: str
    err: str
    code: int | str
    cpu_seconds: float
    memory: int
    children: bool


def run(words: tuple[str, ...], place: Path) -> Ended:
    """Run a command line in a folder."""
    _require_one_thread()
    out, err = place.with_name("out.txt"), place.with_name("err.txt")
    spent = resource.getrusage(resource.RUSAGE_SELF)
    child = os.fork()
    if child == 0:
        _play(words, place, out, err)
    status, usage, late = _waited(child)
    children = _end_group(child)
    code: int | str = os.waitstatus_to_exitcode(status)
    if late:
        code = f"nothing for {WALL_SECONDS:g} s"
    elif isinstance(code, int) and code < 0:
        code = signal.Signals(-code).name
    return Ended(
        out.read_text(errors="replace"),
        err.read_text(errors="replace"),
        code,
        usage.ru_utime + usage.ru_stime,
        max(0, usage.ru_maxrss - spent.ru_maxrss) << 10,
        children and not late,
    )


def _require_one_thread() -> None:
    """RuntimeError where a fork could find a lock held by a thread that it does not have."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if len(names) - names.count("jemalloc_bg_thd") != 1:  # that of pyarrow's allocator knows of forks
        raise RuntimeError(f"a process of several threads cannot be forked safely: {names}")


def _waited(child: int) -> tuple[int, resource.struct_rusage, bool]:
    end, late = time.monotonic() + WALL_SECONDS, False
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return status, usage, late
        if time.monotonic() > end:
            late = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)


def _end_group(child: int) -> bool:
    """Whether a process of the child's group outlived it; it is ended."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _play(words: tuple[str, ...], place: Path, out: Path, err: Path) -> None:
    """In the child: become what the command would be, run it, and end."""
    code = 70
    try:
        os.setsid()
        signal.alarm(int(6 * WALL_SECONDS))  # the end of it where nobody waits for it any more
        os.chdir(place)
        os.environ["COMPRESSKIT_CACHE"] = str(place / "cache")
        for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
            file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, number)
            os.close(file)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        _limit(resource.RLIMIT_AS, _address_space() + ADDRESS_SPACE)
        _limit(resource.RLIMIT_FSIZE, FILE_SIZE)
        _limit(resource.RLIMIT_CORE, 0)
        use_forked_workers()
        code = main(list(words))
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def use_forked_workers() -> None:
    """Let evaluations of this process fork their workers: fresh ones would import for seconds."""
    evaluation._run_worker = _forked_worker


def _forked_worker(measurement: Measurement) -> int:
    """In the place of the fresh process that measures a checkpoint. Its standard input ends when it may."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(write)
            os.dup2(read, 0)
            os.dup2(2, 1)
            sys.stdin = io.StringIO(f"{measurement.to_json()}\n")
            code = worker.main()  # and nothing at the end: what is removed at exit is the other process's
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(read)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(write)
    return code


def _limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, value))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def freeze() -> None:
    """Leave what is in memory by now, which all forks share, out of their garbage collections and of their ends."""
    gc.collect()
    gc.freeze()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
