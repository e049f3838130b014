"""Make a checkpoint again from its manifest: the same data by hash, the same options; then compare the two."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compresskit import console
from compresskit.checkpoint.jobs import differences
from compresskit.checkpoint.manifest import Manifest, Step, package_versions, read_manifest
from compresskit.checkpoint.outputs import check_folder
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.described import job_of
from compresskit.methods.job import Job, default_output
from compresskit.methods.registry import method_named
from compresskit.methods.run import completed, describe, outline, plan, run
from compresskit.models.device import resolve_device
from compresskit.models.source import BUILT_IN, Source, check_own_files, resolve
from compresskit.recipe.likeness import Likeness, changed, compared
from compresskit.recipe.originals import (
    Data,
    base_again,
    check_built,
    found_again,
    history_again,
    teacher_again,
)
from compresskit.recipe.plan import outlined
from compresskit.recipe.replay_options import ReplayOptions
from compresskit.recipe.run import check_alone
from compresskit.training.arguments import Evaluator, TrainingOptions
from compresskit.training.session import starting_point


@dataclass(frozen=True, slots=True)
class Making:
    """A step that is made again: its number in the manifest, its job, and whether its base is yet to be made."""

    number: int
    step: Step
    job: Job
    waits: bool

    @property
    def trains(self) -> bool:
        """Whether it learns from data."""
        return method_named(self.job.method).trains


@dataclass(frozen=True, slots=True)
class Replay:
    """A checkpoint, and what is made to make it again; all that is read was found, and is that of then."""

    options: ReplayOptions
    source: Source
    manifest: Manifest
    makings: Sequence[Making]
    evaluator: Evaluator | None

    @property
    def output(self) -> Path:
        """The folder of the checkpoint made again."""
        return self.makings[-1].job.options.target

    def run(self) -> Likeness:
        """Make it, and compare. Raises what running a job raises."""
        for line in self._versions():
            console.info(line)
        for making in self.makings:
            console.info(f"{self._named(making)}, to {making.job.options.target}")
            with _threads_of(making):
                self._make(making)
        made = read_manifest(self.output)
        assert made is not None
        return compared((self.source.path, self.manifest), (self.output, made), self.options.tolerance)

    def plan(self) -> Iterator[str]:
        """Yield the lines that tell what would be made. Raises what `run` raises before it computes."""
        yield from self._versions()
        for making in self.makings:
            yield f"{self._named(making)}, to {making.job.options.target}"
            step, data = making.step, making.step.data
            if data is not None:
                yield f"  on {data.path}, whose sha256 is {data.sha256[:12]} as then"
            yield from (f"  {line}" for line in _own_plan(making))
            if making.step is self.manifest.steps[-1]:
                yield f"  then compares with {self.source.path}, which took {step.wall_time_s:.0f} s"

    def _named(self, making: Making) -> str:
        options = making.job.options
        return f"step {making.number} of {len(self.manifest.steps)}: {making.step.method} of {options.model}"

    def _versions(self) -> list[str]:
        """A line for each package that is another than when the last step was made."""
        found = changed(self.manifest.steps[-1].versions, package_versions())
        return [f"{name} was {then or 'not there'}, and is {now or 'not there'}" for name, (then, now) in found.items()]

    def _make(self, making: Making) -> None:
        if making.trains:
            is_last = making is self.makings[-1]
            run(making.job, self.evaluator if is_last else None)
        elif self.options.resume and _is_made(making.job):
            console.info(f"{making.job.options.target} is complete already")
        else:
            run(making.job)


def prepared(options: ReplayOptions) -> Replay:
    """What a replay makes, once all that it reads is found. Nothing is written.

    Raises UsageError for an option without effect, InputError where something is not there, or is another than then.
    """
    check_alone("replay")
    source = resolve(options.checkpoint)
    manifest = source.manifest
    if manifest is None or not manifest.steps:
        raise InputError(
            f"{options.checkpoint} has no manifest that tells how it was made; "
            "give a checkpoint that has a compresskit.json"
        )
    check_own_files(source)
    try:
        makings = _makings(options, source, manifest)
    except InputError as error:
        raise InputError(f"{options.checkpoint}: {error}") from error
    last = makings[-1]
    if options.eval_data is not None and not last.trains:
        raise UsageError(f"--eval-data has no effect with {last.job.method}, which scores nothing; leave it out")
    scoring = EvaluatorOptions(options.eval_data or (last.job.training.select_data if last.trains else None))
    reads = (source.path, *scoring.reads)
    makings = [replace(each, job=replace(each.job, reads=reads)) for each in makings]
    for each in makings:
        if not options.resume:
            check_folder(each.job.options.target, reads, overwrite=options.overwrite)
    evaluator = scoring.evaluator(last.job.training) if last.trains else None
    return Replay(options, source, manifest, makings, evaluator)


def _makings(options: ReplayOptions, source: Source, manifest: Manifest) -> list[Making]:
    """The steps that are made, with their inputs found."""
    steps = manifest.steps
    first = _first(steps) if options.all else len(steps) - 1
    chosen = steps[first:]
    data = Data(options.train_data, chosen)
    if options.teacher is not None and not any(step.config.get("teacher") for step in chosen):
        raise UsageError(f"--teacher {options.teacher} has no effect, as the manifest names no teacher; leave it out")
    output = options.output or default_output(str(source.path), "replay")
    made: list[Making] = []
    for number, step in enumerate(chosen, start=first + 1):
        folder = output if number == len(steps) else Path(f"{output}-step{number}")
        job = _with_inputs(job_of(step, folder), step, data, options)
        if made:
            job = _starting(job, str(made[-1].job.options.target))
        else:
            job = _first_job(job, number == len(steps), options, source, manifest)
        made.append(Making(number, step, job, waits=bool(made)))
    return made


def _first(steps: Sequence[Step]) -> int:
    """The first of the steps that have to be made: that which builds its own model, or the earliest."""
    built = [number for number, step in enumerate(steps) if _builds(step)]
    return built[-1] if built else 0


def _builds(step: Step) -> bool:
    return step.config.get("architecture") is not None or step.config.get("model") in BUILT_IN


def _with_inputs(job: Job, step: Step, data: Data, options: ReplayOptions) -> Job:
    """The job with its data and its teacher where they lie now, and told what a run may do with its output."""
    more: dict[str, Any] = {"overwrite": options.overwrite}
    found = data.again(step)
    if isinstance(job.options, TrainingOptions):
        more |= {"resume": options.resume, "train_data": found}
        if (chosen_on := job.options.select_data) is not None:
            selection = step.metrics.get("selection")
            wanted = selection.get("sha256") if isinstance(selection, dict) else None
            more["select_data"] = found_again(options.eval_data or chosen_on, wanted, "eval", "--eval-data")
    elif step.data is not None and found != step.data.path:
        job = replace(job, config=replace(job.config, train_data=found))
    if job.distillation.teacher is not None:
        taught = replace(job.distillation, teacher=teacher_again(step, options.teacher))
        job = replace(job, distillation=taught)
    return replace(job, options=replace(job.options, **more))


def _starting(job: Job, ref: str, revision: str | None = None) -> Job:
    return replace(job, options=replace(job.options, model=ref, revision=revision))


def _first_job(job: Job, is_last: bool, options: ReplayOptions, source: Source, manifest: Manifest) -> Job:
    """The job of the first step, starting from the checkpoint of then."""
    base, named = manifest.base, job.options.model
    training = job.options if isinstance(job.options, TrainingOptions) else None
    if named in BUILT_IN or (training is not None and training.architecture is not None):
        if options.base is not None:
            raise UsageError(f"--base {options.base} has no effect with {named}, which is built; leave it out")
        start = starting_point(training) if training is not None else job.options.source
        check_built(start, base if is_last else None)
        return job
    if not is_last or base is None:
        _check_there(options.base or named)
        return _starting(job, options.base or named, job.options.revision if options.base is None else None)
    if job.method == "export" and job.config.peft_plain:  # whose base is what the adapter stands on
        return _starting(job, history_again(named, options.base, manifest.steps[:-1]))
    mend = "give it as --base PATH"
    if len(manifest.steps) > 1 and not options.all:
        mend += ", or make it again too with --all"
    return _starting(job, *base_again(source.path, base, named, options.base, mend))


def _check_there(ref: str) -> None:
    """InputError where the checkpoint that the earliest step starts from is not there."""
    try:
        resolve(ref)
    except CompresskitError as error:
        raise InputError(f"{str(error).partition(';')[0]}; give it as --base PATH") from error


def _is_made(job: Job) -> bool:
    """Whether a job that learns nothing has left its whole checkpoint."""
    folder = job.options.target
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None or not manifest.steps or differences(manifest.steps[-1].config, describe(completed(job))):
        return False
    check_own_files(Source(str(folder), folder))
    return True


@contextlib.contextmanager
def _threads_of(making: Making) -> Iterator[None]:
    """Compute with as many threads as then, where this machine has them: sums of other parts are rounded otherwise."""
    then, now = making.step.choices.get("threads"), torch.get_num_threads()
    on_cpu = making.trains and resolve_device(making.job.training.device).type == "cpu"
    if not on_cpu or not isinstance(then, int) or not 0 < then <= (os.cpu_count() or 1):
        yield
        return
    torch.set_num_threads(then)
    try:
        yield
    finally:
        torch.set_num_threads(now)


def _own_plan(making: Making) -> Iterator[str]:
    """Yield what a step's own plan tells; of one whose base is yet to be made, that it is."""
    if making.waits:
        yield "planned in full once the step before it is made"
    elif making.trains:
        yield from map(outlined, plan(making.job))
    elif making.job.method == "quantize":
        found = outline(making.job)
        yield f"{found.parameters:,} parameters, about {found.checkpoint_bytes:,} bytes of weights"
