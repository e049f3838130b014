"""What a try says of its package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tried:
    """What a try did, in words, and figures that others need of it.

    `untried` tells that nothing could be tried here, and `did` why.
    """

    did: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    untried: bool = False


def require(holds: bool, otherwise: str) -> None:
    """RuntimeError where a package has not given what it should have."""
    if not holds:
        raise RuntimeError(otherwise)
