"""What is to be done for each checkpoint of a recipe: keep it, take up an interrupted run, or make it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from compresskit.checkpoint.manifest import FILE
from compresskit.checkpoint.store import workspace_of
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.job import Job
from compresskit.models.source import Source, check_own_files
from compresskit.recipe.places import blamed
from compresskit.recipe.recipe import Checkpoint, Recipe
from compresskit.recipe.record import Record, read_record, record_of
from compresskit.recipe.verbs import made


@dataclass(frozen=True, slots=True)
class State:
    """What is to be done, and `why`; `record` is that of the checkpoint, None where an input is yet to be made."""

    action: Literal["keep", "resume", "run"]
    why: str = ""
    record: Record | None = None
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Workplace:
    """A recipe, and the folder below which its checkpoints lie."""

    recipe: Recipe
    folder: Path

    def of(self, name: str) -> Path:
        """The folder of a checkpoint."""
        return self.folder / name

    def ref(self, name: str) -> str:
        """What a name in the recipe refers to: a checkpoint's folder, or itself."""
        return str(self.of(name)) if any(each.name == name for each in self.recipe.checkpoints) else name

    def inputs(self, checkpoint: Checkpoint) -> list[str]:
        """The checkpoints of the recipe that one stands on or learns from."""
        known = {each.name for each in self.recipe.checkpoints}
        return [name for name in (checkpoint.base, checkpoint.values.get("teacher")) if name in known]

    def values(self, checkpoint: Checkpoint, **more: Any) -> dict[str, Any]:
        """The values of the verb's options, with the folders that the names stand for."""
        values = {**checkpoint.values, "model": self.ref(checkpoint.base), "output": self.of(checkpoint.name), **more}
        return {**values, "teacher": self.ref(values["teacher"])} if "teacher" in values else values

    def job(self, checkpoint: Checkpoint, **more: Any) -> Job:
        """The job of a checkpoint; the error of the place where a value cannot be."""
        values = self.values(checkpoint, **more)
        try:
            job = checkpoint.verb.job(values)
            return replace(job, reads=made(EvaluatorOptions, values).reads) if checkpoint.verb.trains else job
        except CompresskitError as error:
            raise blamed(error, checkpoint.places, checkpoint.place) from error

    def known(self, checkpoint: Checkpoint) -> Record | None:
        """The record of what lies in the place of a checkpoint, None where nothing does.

        Raises UsageError where that is not of this recipe.
        """
        folder = self.of(checkpoint.name)
        known, (is_there, is_open) = read_record(folder), self._traces(checkpoint)
        if known is None and (is_there or is_open):
            what = folder if is_there else workspace_of(folder)
            raise UsageError(f"{what} is in the way (it is not of this recipe); move it, or choose another -o")
        return known

    def _traces(self, checkpoint: Checkpoint) -> tuple[bool, bool]:
        """Whether a checkpoint's folder is there, and whether an interrupted run of it is."""
        folder = self.of(checkpoint.name)
        return os.path.lexists(folder), (workspace_of(folder) / "run.json").exists()

    def states(self) -> Iterator[tuple[Checkpoint, State]]:
        """Yield every checkpoint with its state as things are; what stands on one that is yet to be made is run too."""
        waiting: set[str] = set()
        for each in self.recipe.checkpoints:
            state = self.state(each, [name for name in self.inputs(each) if name in waiting])
            if state.action != "keep":
                waiting.add(each.name)
            yield each, state

    def state(self, checkpoint: Checkpoint, first: Sequence[str] = ()) -> State:
        """The state of a checkpoint; `first` are its inputs that are yet to be made."""
        folder = self.of(checkpoint.name)
        known = self.known(checkpoint)
        is_there, is_open = self._traces(checkpoint)
        if first:
            return State("run", f"after {first[0]}", replaces=known is not None)
        record = record_of(checkpoint, self.job(checkpoint))
        if known is None:
            return State("run", record=record)
        if changes := record.changes(known):
            return State("run", f"again: {changes}" if is_there or is_open else "", record, replaces=True)
        if is_open:
            return State("resume", "it was interrupted", record, replaces=is_there)
        if not known.done:
            return State("run", "again: it did not end", record, replaces=True)
        if problem := _problem(folder):
            return State("run", f"again: {problem}", record, replaces=True)
        return State("keep", "nothing changed", record)


def _problem(folder: Path) -> str:
    """What is wrong with a checkpoint that was made, in words; "" where it is as it was left."""
    if not (folder / FILE).is_file():
        return f"{folder} is gone" if not os.path.lexists(folder) else f"{folder} has no manifest"
    try:
        check_own_files(Source(str(folder), folder))
    except InputError as error:
        return str(error).partition(";")[0]
    return ""
