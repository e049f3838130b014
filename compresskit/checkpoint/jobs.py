"""Whether two runs are the same job, told by their settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compresskit.errors import UsageError

_LENGTH = ("epochs", "max_steps")
"""How long a run is: an interrupted one may go on to another end."""


def without_length(job: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run but for its length."""
    return {key: value for key, value in job.items() if key not in _LENGTH}


def differences(known: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    """The settings in which a run from before differs from this one, in words; "" where they are the same.

    Of settings that hold settings, those within are named: `architecture.layers was 1 and is 2`.
    """
    return ", ".join(_changes(known, json.loads(json.dumps(job)), ""))


def _changes(known: Mapping[str, Any], job: Mapping[str, Any], within: str) -> Iterator[str]:
    for key in sorted({*known, *job}):
        before, now = known.get(key), job.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _changes(before, now, f"{within}{key}.")
        elif before != now:
            yield f"{within}{key} was {before!r} and is {now!r}"


def check_same_job(known: Mapping[str, Any], job: Mapping[str, Any], path: Path) -> None:
    """UsageError naming the settings in which the run in `path` differs from this one."""
    if listing := differences(known, job):
        raise UsageError(f"{path} is another run ({listing}); give the same options, or --overwrite to start anew")
