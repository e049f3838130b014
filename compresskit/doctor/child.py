"""The other process: `python -m compresskit.doctor.child NAME SECONDS` runs one try, and writes JSON of its outcome."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import Any

from compresskit.doctor.cause import cause_of
from compresskit.importing import watched
from compresskit.text import one_line

PATHS = "paths"
"""The name under which the ways of computing are found out, as if they were a package."""


def outcome(name: str) -> dict[str, Any]:
    """What a try did, or why it could not: `reason` as the package says it, and `cause`, see `cause_of`."""
    try:
        with watched(told=False):
            if name == PATHS:
                from compresskit.doctor.paths import paths

                return {"facts": {"paths": [asdict(each) for each in paths()]}}
            from compresskit.doctor.tries import TRIES

            return asdict(TRIES[name]())
    except BaseException as error:  # a package may raise anything, a panic of Rust or SystemExit too
        return {"reason": one_line(f"{type(error).__name__}: {error}"), "cause": cause_of(error)}


def main(name: str, seconds: int) -> None:
    """Run one try within `seconds`, whatever becomes of who asked for it, and end at once."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)
    began, answer = time.monotonic(), os.dup(1)
    os.dup2(2, 1)  # libraries print
    found = outcome(name)
    os.write(answer, json.dumps(found | {"seconds": round(time.monotonic() - began, 2)}).encode())
    os._exit(0)  # the outcome is known; what libraries do at the end takes time


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
