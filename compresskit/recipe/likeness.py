"""What came of a replay: the checkpoint made again beside the one that it is made after, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from compresskit.checkpoint.jobs import differences
from compresskit.checkpoint.manifest import FILE, Manifest, Step
from compresskit.recipe.alike import Apart, FileAlike, alike
from compresskit.text import counted, finite_or_none, to_json

SCHEMA = "compresskit.replay/1"

Pair = tuple[Any, Any]
"""What a value was, and what it is; None where there was or is none."""

Verdict = Literal["same", "within", "differs"]

NAMED = ("model", "checkpoint", "revision", "train_data", "teacher", "select_data")
"""Settings that name what a run reads. That may lie elsewhere now; it is compared by its hash."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """A checkpoint and its replay, compared.

    `versions` and `choices` are those that differ, `metrics` all figures of either. `inputs` are hashes of what the
    step was made from, where those differ. `settings` tells in words what this version sets otherwise. `tolerance` is
    the largest relative difference of a tensor (see `Apart`) that is accepted.
    """

    checkpoint: Path
    replay: Path
    tolerance: float
    files: Sequence[FileAlike]
    versions: Mapping[str, Pair]
    choices: Mapping[str, Pair]
    metrics: Mapping[str, Pair]
    inputs: Mapping[str, Pair]
    settings: str

    @property
    def apart(self) -> list[tuple[str, Apart]]:
        """The tensors that differ, with the names of their files; the worst first."""
        found = [(file.name, each) for file in self.files for each in file.apart]
        return sorted(found, key=lambda each: -each[1].relative)

    @property
    def problems(self) -> list[str]:
        """What is in one of the two alone, or is not of one form."""
        return [f"{file.name}: {file.problem}" for file in self.files if file.problem]

    @property
    def largest(self) -> float:
        """The largest relative difference of a tensor."""
        return max((each.relative for _, each in self.apart), default=0.0)

    @property
    def verdict(self) -> Verdict:
        """Whether all tensors are the same bit for bit, within the tolerance, or not."""
        if self.problems or self.largest > self.tolerance:
            return "differs"
        return "within" if self.apart else "same"

    @property
    def told(self) -> str:
        """The verdict in words; it is on the tensors, so what else differs is named behind it."""
        tensors = sum(file.tensors for file in self.files)
        if self.problems:
            return f"differs: {self.problems[0]}"
        others = [file.name for file in self.files if file.change and not file.tensors]
        beside = f"; other files differ: {', '.join(others)}" if others else ""
        if self.verdict == "same":
            return f"the same, bit for bit: {counted(tensors, 'tensor')}{beside}"
        found = f"{len(self.apart)} of {counted(tensors, 'tensor')} differ by at most {self.largest:.2g}"
        return f"within {self.tolerance:g}: {found}{beside}" if self.verdict == "within" else f"differs: {found}"

    def to_json(self) -> str:
        """One JSON object; a difference that is not finite is null."""
        own = {"checkpoint": str(self.checkpoint), "replay": str(self.replay), "tolerance": self.tolerance}
        pairs = {name: getattr(self, name) for name in ("versions", "choices", "metrics", "inputs")}
        told = {name: {key: {"then": a, "now": b} for key, (a, b) in each.items()} for name, each in pairs.items()}
        found = {"verdict": self.verdict, "largest": self.largest, "settings": self.settings, **told}
        files = [asdict(file) for file in self.files]
        return to_json(finite_or_none({"schema": SCHEMA, **own, **found, "files": files}), indent=2)


def compared(then: tuple[Path, Manifest], now: tuple[Path, Manifest], tolerance: float) -> Likeness:
    """A checkpoint and its replay, by folder and manifest. Raises InputError for a file that is damaged."""
    (first, before), (second, after) = then, now
    old, new = before.steps[-1], after.steps[-1]
    known = [set(each.files) if each.files is not None else _beside(folder) for folder, each in (then, now)]
    names = sorted(known[0] | known[1])
    plain = [{key: value for key, value in step.config.items() if key not in NAMED} for step in (old, new)]
    return Likeness(
        first,
        second,
        tolerance,
        alike(first, second, names),
        changed(old.versions, new.versions),
        changed(old.choices, new.choices),
        _figures(old, new),
        dict(_inputs((before, old), (after, new))),
        differences(*plain),
    )


def _beside(folder: Path) -> set[str]:
    """The files of a folder whose manifest lists none."""
    return {path.name for path in folder.iterdir() if path.is_file() and path.name != FILE}


def changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Pair]:
    """The entries that are not the same in both."""
    keys = [*then, *(key for key in now if key not in then)]
    return {key: (then.get(key), now.get(key)) for key in keys if then.get(key) != now.get(key)}


def _figures(old: Step, new: Step) -> dict[str, Pair]:
    """The figures of both steps by name: numbers of the whole run, and its wall time."""
    sides = [_numbers(step.metrics) | {"wall_time_s": round(step.wall_time_s, 3)} for step in (old, new)]
    return {key: (sides[0].get(key), sides[1].get(key)) for key in {**sides[0], **sides[1]}}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _inputs(then: tuple[Manifest, Step], now: tuple[Manifest, Step]) -> Iterator[tuple[str, Pair]]:
    """Yield the hashes of what a step was made from, by name, where they differ."""
    bases = [each.base.sha256 if each.base is not None else None for each, _ in (then, now)]
    teachers = [step.metrics.get("teacher_sha256") for _, step in (then, now)]
    data = [step.data.sha256 if step.data is not None else None for _, step in (then, now)]
    for name, (one, two) in (("base", bases), ("teacher", teachers), ("data", data)):
        if one != two:
            yield name, (one, two)
