"""CPU time of `compresskit --help` against importing typer and rich alone, in fresh processes.

python benchmarks/help_time.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

ROUNDS = 7


def cpu_seconds(command: Sequence[str]) -> float:
    """User and system time of a command, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measure and print both."""
    ours = statistics.median(cpu_seconds([sys.executable, "-m", "compresskit", "--help"]) for _ in range(ROUNDS))
    bare = [sys.executable, "-c", "import typer, rich.console, rich.table, rich.panel"]
    theirs = statistics.median(cpu_seconds(bare) for _ in range(ROUNDS))
    print(f"compresskit --help  {ours:.3f} s of CPU time")
    print(f"typer and rich      {theirs:.3f} s   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
