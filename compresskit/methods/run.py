"""The one choreography: a job is run, or planned, whatever its method."""

from __future__ import annotations

import functools
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compresskit import console
from compresskit.checkpoint.jobs import differences
from compresskit.checkpoint.manifest import Manifest, Step, read_manifest
from compresskit.checkpoint.outputs import check_folder
from compresskit.checkpoint.seal import check_seals
from compresskit.checkpoint.store import Workspace, sha256_weights, staged_folder
from compresskit.data.load import load as load_data
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import ByFamily, Job, model_defaults, with_data
from compresskit.methods.method import Method
from compresskit.methods.needed import require_packages
from compresskit.methods.penalties import with_penalties
from compresskit.methods.reading import data_of, read_by
from compresskit.methods.registry import method_named
from compresskit.methods.teaching import supervised, taught
from compresskit.models.counting import count
from compresskit.models.device import DTYPES
from compresskit.models.families import family_of
from compresskit.models.family import Family
from compresskit.models.folder import read_config
from compresskit.models.kind import instead_of
from compresskit.models.kinds import kind_of
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.registry import load_trainable, load_whole, require_head, whole_base
from compresskit.models.source import Source, base_of, resolve
from compresskit.models.task import Items
from compresskit.options import refuse
from compresskit.training.arguments import Evaluator, TrainingOptions
from compresskit.training.choices import choices_of, told
from compresskit.training.computing import compute_dtype
from compresskit.training.penalty import PenaltyMeter
from compresskit.training.plan import NUMBER_BYTES, Plan, make_plan
from compresskit.training.reporters import check_reporter
from compresskit.training.selection import check_selection, told_late
from compresskit.training.session import (
    Session,
    check_options,
    claimed,
    finish,
    is_complete,
    load_for_training,
    prepare,
    processes_of,
    starting_point,
)


def run(job: Job, evaluator: Evaluator | None = None) -> Path:
    """Run a job; the folder of the new checkpoint.

    `evaluator` gives the figures of the finished checkpoint for its manifest. Raises the package's errors for bad
    input, a taken output, an option without effect, and a run that fails.
    """
    require_packages(job)
    method, asked, job = method_named(job.method), job, completed(job)
    if not method.trains:
        return _convert(method, job)
    check_effects(method, asked)
    options, described = job.training, describe(job)
    if is_complete(options, described):
        Workspace(options.target).remove()  # a crash after the checkpoint was in its place leaves it
        console.info(f"{options.target} is complete already")
        return options.target
    if processes_of(options).is_main_process:  # the others see what this one makes in the meantime
        check_places(job)
    source = starting_point(options)
    require_kind(method, source)
    if job.teacher is not None:
        examine_first([asked], source)
    with claimed(options, _identity(job)) as (workspace, work):
        teacher = trained_teacher(job, source)
        base = method.prepare_base(source, teacher)
        require_kind(method, base)
        examine = functools.partial(method.examine, asked)
        session = prepare(options, base, workspace, work, examine)
        _train(method, asked, job, session, teacher, evaluator)
    return options.target


def plan(job: Job) -> list[Plan]:
    """What `run` would do with a job that trains, without doing it; first the plan of a teacher that it trains."""
    require_packages(job)
    method, asked, job = method_named(job.method), job, completed(job)
    check_effects(method, asked)
    options = job.training
    check_places(job)
    source = starting_point(options)
    require_kind(method, source)
    given = resolve(job.distillation.teacher) if job.distillation.teacher is not None else None
    # A teacher that is yet to be trained is the same model.
    base = source if job.teacher is not None else method.prepare_base(source, given)
    require_kind(method, base)
    loaded = load_for_training(base, options)
    loaded.missing_head = loaded.missing_head and job.teacher is None
    check_options(options, loaded)
    method.examine(asked, loaded)
    method.prepare(asked, loaded, _opened(given, loaded, asked.distillation) if given is not None else None)
    attached = method.attach(loaded, job.config, DTYPES[compute_dtype(options)])
    choices = {**choices_of(options, loaded), **attached.choices(options)}
    footprint = attached.footprint(NUMBER_BYTES[compute_dtype(options)])
    summary = attached.summary()
    own = make_plan(
        options,
        loaded,
        with_penalties(supervised(loaded.task), loaded, attached),
        groups=attached.groups(options),
        copies=footprint.memory,
        checkpoint_bytes=footprint.checkpoint,
        notes=[
            f"writes {options.target}" + (f": {summary}" if summary else ""),
            *([f"teacher: {given.ref}"] if given is not None else []),
            told(choices),
        ],
    )
    if options.eval_steps is not None:
        own = replace(own, notes=[*own.notes, *told_late(options, own.steps, attached.comparable)])
    return [*plan(job.teacher), own] if job.teacher is not None else [own]


@dataclass(frozen=True, slots=True)
class Outline:
    """What a job that learns nothing would do: `parameters`, about how many bytes of weights, where, and in words."""

    parameters: int
    checkpoint_bytes: int
    target: Path
    summary: str


def outline(job: Job) -> Outline:
    """What `run` would do with a job that learns nothing, without doing it.

    Reads what `run` reads, and raises what that finds before it computes.
    """
    require_packages(job)
    method, job = method_named(job.method), completed(job)
    check_places(job)
    loaded = _examined(method, job)
    for ref in data_of(job, job.options.source):
        load_data(ref, "train")
    attached = method.attach(loaded, job.config, torch.float32)
    size = attached.footprint(NUMBER_BYTES["float32"]).checkpoint
    return Outline(count(loaded.model).total or 0, size, job.options.target, attached.summary())


def _examined(method: Method, job: Job) -> TrainableModel:
    """The checkpoint of a job that learns nothing, in memory. Raises the package's errors for what cannot be."""
    source = job.options.source
    require_kind(method, source)
    loaded = load_whole(source)
    method.examine(job, loaded)
    return loaded


def check_effects(method: Method, asked: Job) -> None:
    """UsageError for an option that has no effect in a job that trains, as far as can be told without a model."""
    if asked.training.max_steps is not None:
        refuse(asked.options, ("epochs",), "with --max-steps")
        refuse(asked.distillation, ("teacher_epochs",), "with --max-steps")
    check_selection(asked.training)
    check_reporter(asked.training.log)
    method.check(asked)


def check_places(job: Job) -> None:
    """UsageError where a completed job, or the training of its teacher, may not write, or would over what it reads.

    UsageError too where an interrupted run is there that it does not go on with, InputError where what that left is
    damaged. A job that `--resume` finds finished
    writes nothing. Raises the errors of `resolve` for the model and the teacher.
    """
    if method_named(job.method).trains and is_complete(job.training, describe(job)):
        return
    check_folder(job.options.target, read_by(job), overwrite=job.options.overwrite)
    if method_named(job.method).trains:
        workspace = Workspace(job.options.target)
        workspace.check(read_by(job))
        workspace.check_job(_identity(job), resume=job.training.resume, overwrite=job.training.overwrite)
        if job.training.resume:  # each folder is looked at again by whoever opens it, which costs nothing then
            check_seals(workspace.path)
    check_teacher(job)


def check_teacher(job: Job) -> None:
    """What `check_places` finds of the teacher that a job trains first; UsageError where another one lies there."""
    if job.teacher is not None:
        teacher = completed(job.teacher)
        _refuse_another(teacher)
        check_places(teacher)


def completed(job: Job) -> Job:
    """The job with the defaults that its method and its model decide: output, training data, learning rate, epochs."""
    method, options = method_named(job.method), job.options
    options = replace(options, output=options.output or method.output(job))
    if not method.trains:
        return replace(job, options=options)
    training = with_data(replace(job, options=options).training)
    config, defaults = job.config, method.defaults or model_defaults(training)
    if isinstance(config, ByFamily):
        config = config.for_family(_family(method, training).name)
    if training.architecture is None and None in (training.lr, training.epochs, training.prompt_template):
        family = _family(method, training)
        defaults = defaults or family.defaults
        training = replace(training, prompt_template=training.prompt_template or family.task.prompt)
    if defaults is not None:
        lr = defaults.lr if training.lr is None else training.lr
        epochs = defaults.epochs if training.epochs is None else training.epochs
        training = replace(training, lr=lr, epochs=epochs)
    return replace(job, options=training, config=config)


def _family(method: Method, training: TrainingOptions) -> Family:
    """The family of the model that a job starts from; InputError where the method does not take a checkpoint so."""
    source = training.source
    require_kind(method, source)
    return family_of(source)


def describe(job: Job) -> dict[str, Any]:
    """All settings of a completed job that decide the result, as JSON values for its manifest."""
    if not isinstance(job.options, TrainingOptions):
        return {"checkpoint": job.options.model, **job.config.describe()}
    return {
        **job.options.describe(),
        **job.config.describe(),
        "distill": job.distillation.softening,
        "teacher": job.distillation.teacher,
        "teacher_training": completed(job.teacher).options.describe() if job.teacher is not None else None,
    }


def _identity(job: Job) -> dict[str, Any]:
    """What an interrupted run of a completed job that trains must have in common with the one that goes on with it."""
    return {"method": job.method, **describe(job), "processes": processes_of(job.training).num_processes}


def require_kind(method: Method, source: Source) -> None:
    """InputError where a method does not take checkpoints of a source's kind; nothing of it is loaded."""
    kind = kind_of(source)
    if kind.name not in method.accepts:
        if not kind.stands_on:
            read_config(source.path)  # what is not a checkpoint at all is told so
        raise InputError(
            f"{source.ref} is of kind {kind.name}, and {method.name} takes {' or '.join(sorted(method.accepts))}; "
            f"{instead_of(kind, source.ref)}"
        )


def _convert(method: Method, job: Job) -> Path:
    """Run a job that learns nothing: open, change, write."""
    started = time.perf_counter()
    check_places(job)
    source, target = job.options.source, job.options.target
    with staged_folder(target, overwrite=job.options.overwrite) as folder:
        loaded = _examined(method, job)
        attached = method.attach(loaded, job.config, torch.float32)
        metrics = attached.finish()
        attached.save(folder)
        loaded.tokenizer.save_pretrained(folder)
        seconds = time.perf_counter() - started
        step = Step(method.title(job.config), describe(job), attached.seed, attached.data, seconds, metrics)
        known = loaded.manifest or Manifest(loaded.family.name, "full", None, [])
        left = method.leaves(job.config)
        # An adapter stands on what it stood on; all else is whole, and tells what it was made from.
        below = whole_base(source) if left == "adapter" else None
        known.add(step, kind=left, base=base_of(below or source, target)).write(folder)
        if (problem := attached.problem(folder)) is not None:
            raise RunFailed(f"what {method.title(job.config)} makes of {source.ref} {problem}; it is not left")
    return target


def examine_first(jobs: Sequence[Job], source: Source) -> None:
    """Find what cannot be before hours go into what jobs need beforehand, such as a teacher of the same model."""
    loaded = load_trainable(source)
    loaded.missing_head = False
    for asked in jobs:
        if method_named(asked.method).trains:
            check_options(asked.training, loaded)
        method_named(asked.method).examine(asked, loaded)


def trained_teacher(job: Job, source: Source) -> Source | None:
    """The teacher's checkpoint, trained now where none is given but one is needed."""
    if job.distillation.teacher is not None:
        return resolve(job.distillation.teacher)
    if job.teacher is None:
        return None
    training = completed(job.teacher)
    _refuse_another(training)
    if not is_complete(training.training, describe(training)):
        console.info(f"no --teacher: fine-tuning {source.ref} first, to {training.options.target}")
    return resolve(str(run(job.teacher)))


def _refuse_another(teacher: Job) -> None:
    """UsageError where another teacher than the one that is to be trained lies in its place."""
    target, known = teacher.options.target, read_manifest(teacher.options.target)
    other = differences(known.steps[-1].config, describe(teacher)) if known is not None and known.steps else ""
    if other and not teacher.options.overwrite:
        raise UsageError(
            f"the teacher in {target} was trained with other options ({other}); "
            f"give it as --teacher {shlex.quote(str(target))}, or --overwrite to train another"
        )


def _opened(teacher: Source, student: TrainableModel, distillation: Distillation) -> LoadedModel:
    """A teacher in memory. Raises InputError where it has no head, or cannot teach this student.

    Raises UsageError for a temperature where the teacher's answers alone are learned.
    """
    loaded = require_head(load_trainable(teacher))
    if student.task.pairing(loaded, student) is None:
        refuse(distillation, ("temperature",), f"with the teacher {loaded.ref}, whose answers are the targets")
    return loaded


def _train(
    method: Method, asked: Job, job: Job, session: Session, source: Source | None, evaluator: Evaluator | None
) -> None:
    """Attach the method to the session's model, fit, and publish the checkpoint; `source` is the teacher's."""
    from compresskit.training.engine import Engine  # seconds, which a plan need not wait

    options, loaded, task = session.options, session.loaded, session.loaded.task
    teacher = _opened(source, loaded, job.distillation) if source is not None else None
    facts = method.prepare(asked, loaded, teacher)
    features: Items = session.features
    objective = supervised(task)
    if teacher is not None and (softening := job.distillation.softening) is not None:
        features, objective, of_teacher = taught(session, teacher, **softening)
        facts = {**facts, "distilled": of_teacher}
        session.keep_time()
    del teacher
    attached = method.attach(loaded, job.config, DTYPES[compute_dtype(options)])
    choices = {**choices_of(options, loaded), **attached.choices(options)}
    if facts.get("distilled") == "logits":
        choices["teacher_logits"] = f"asked for once, in {compute_dtype(options)}, and kept in float16"
    console.info(told(choices))
    groups, penalties = attached.groups(options), PenaltyMeter()
    figures = Engine(
        loaded.model,
        features,
        session.features.lengths,
        task.collator(loaded.tokenizer),
        with_penalties(objective, loaded, attached, penalties),
        task.rows,
        groups,
        options,
        session.work,
        fields=attached.fields,
        saved=session.keep_time,
        penalties=penalties,
        selection=session.selection(attached.comparable, attached.as_finished),
    ).fit(resume=options.resume)
    metrics = {**figures, **attached.finish(), **facts}
    if method.leaves(job.config) != "full" or source is not None:
        metrics["teacher_sha256"] = sha256_weights(source.path) if source is not None else None
    finish(
        session,
        method=method.title(job.config),
        config=describe(job),
        kind=method.leaves(job.config),
        base=base_of(session.source, options.target),
        metrics=metrics,
        choices=choices,
        save=attached.save,
        evaluator=evaluator,
    )
