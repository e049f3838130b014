"""References to checkpoints, as they are given: which of them are one, and what their rows are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def judged(checkpoints: Sequence[str], baselines: Sequence[str]) -> list[str]:
    """The checkpoints but for those of the baseline, each once."""
    return [ref for ref in with_baseline(checkpoints, None) if not any(same(ref, base) for base in baselines)]


def with_baseline(checkpoints: Sequence[str], baseline: str | None) -> list[str]:
    """The checkpoints, each once, the baseline in front where it is not among them."""
    refs: list[str] = []
    for ref in checkpoints:
        if not any(same(ref, other) for other in refs):
            refs.append(ref)
    if baseline is not None and not any(same(ref, baseline) for ref in refs):
        refs.insert(0, baseline)
    return refs


def same(one: str, other: str) -> bool:
    """Whether two references mean one checkpoint: the same text, or the same folder."""
    if one == other:
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def unique_names(refs: Sequence[str]) -> list[str]:
    """A name for each reference: the file's or folder's, with more of its path where two clash, or itself."""
    parts = [Path(ref).resolve().parts[1:] or (ref,) if os.path.exists(ref) else (ref,) for ref in refs]
    depth = [1] * len(refs)
    while True:
        names = ["/".join(part[-count:]) for part, count in zip(parts, depth, strict=True)]
        clashes = [
            index for index, name in enumerate(names) if names.count(name) > 1 and depth[index] < len(parts[index])
        ]
        if not clashes:
            return names
        for index in clashes:
            depth[index] += 1
