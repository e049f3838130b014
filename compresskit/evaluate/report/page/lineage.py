"""How a checkpoint came to be, in pairs of words, read from a manifest that may come from another version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a lineage: the method, what it ran on, its configuration, what came of it, package versions."""

    method: str
    facts: Pairs
    config: Pairs
    metrics: Pairs
    versions: Pairs


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a checkpoint stands on (no pairs where it stands on none), and its steps, the oldest first."""

    kind: str
    created: str
    base: Pairs
    stages: tuple[Stage, ...]


def lineage(manifest: Mapping[str, Any]) -> Lineage:
    """The lineage of a `compresskit.json`; parts that are missing or of another kind are left out."""
    steps = manifest.get("steps")
    return Lineage(
        written(manifest.get("kind")),
        written(manifest.get("created")),
        pairs(manifest.get("base")),
        tuple(_stage(step) for step in steps if isinstance(step, Mapping)) if isinstance(steps, list) else (),
    )


def _stage(step: Mapping[str, Any]) -> Stage:
    data, config, seconds = step.get("data"), step.get("config"), step.get("wall_time_s")
    facts: dict[str, Any] = {}
    if isinstance(data, Mapping):
        names = {"data": "path", "questions": "questions", "unanswerable": "unanswerable", "data sha256": "sha256"}
        facts = {name: data.get(key) for name, key in names.items()}
    if isinstance(seconds, int | float):
        facts["wall time"] = duration(seconds)
    facts["seed"] = step.get("seed")
    facts["choices"] = step.get("choices") or None  # none in those of older versions
    if isinstance(config, Mapping):
        config = {key: value for key, value in config.items() if key not in ("method", "seed")}
    return Stage(
        written(step.get("method")),
        pairs(facts),
        pairs(config),
        pairs(step.get("metrics")),
        pairs(step.get("versions")),
    )


def pairs(value: object, prefix: str = "") -> Pairs:
    """The entries of a mapping as (key, text), those of mappings within under `outer.inner`, without None."""
    if not isinstance(value, Mapping):
        return ()
    found: list[tuple[str, str]] = []
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            found += pairs(entry, f"{prefix}{key}.")
        elif entry is not None:
            found.append((f"{prefix}{key}", written(entry)))
    return tuple(found)


def written(value: object) -> str:
    """A value of a JSON as a person writes it: five digits, lists with commas, yes and no."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value))
    return str(value)


def duration(seconds: float) -> str:
    """A time in its two greatest units: 8.2 s, 7 min 20 s, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
