"""Measure checkpoints side by side, each in a fresh process, and put their rows into one report."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import compresskit
from compresskit import console
from compresskit.checkpoint.manifest import package_versions
from compresskit.checkpoint.store import sha256_file
from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.errors import CompresskitError, InputError, RunFailed, UsageError
from compresskit.evaluate import cache
from compresskit.evaluate.answers import read_answers
from compresskit.evaluate.apart import measure_apart
from compresskit.evaluate.compare import compared, flips
from compresskit.evaluate.job import PREDICTIONS_FILE, Job, Outcome
from compresskit.evaluate.measure import disk_bytes
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.shard import Shard
from compresskit.models.kinds import fingerprint


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept of an evaluation beside its report.

    ``use_cache``: an unchanged checkpoint is not measured again. ``predictions`` is a folder for one ``NAME.json`` a
    checkpoint. ``flips`` is how many questions that flip against the baseline a row tells, of those won and of those
    lost.
    """

    use_cache: bool = True
    predictions: Path | None = None
    flips: int = 0


@dataclass(frozen=True, slots=True)
class _Measured:
    """A checkpoint's outcome, and the folder that holds its answers where it has any."""

    outcome: Outcome
    folder: Path


def evaluate(
    checkpoints: Sequence[str],
    data_ref: str,
    settings: EvalSettings,
    baseline: str | None = None,
    names: Sequence[str] | None = None,
    keeping: Keeping | None = None,
) -> Report:
    """Measure every one of ``checkpoints`` (alias, Hub id, folder, file of answers) on ``data_ref``; return the report.

    ``baseline`` is the checkpoint the others are compared with; where it is not among them it becomes the
    first row (see `compared`). A checkpoint that cannot be scored, or whose process crashes (a signal, out of memory),
    is a row with ``error``; the others go on. ``names`` are those of the rows, in place of names made from the
    references.

    Raises UsageError where there is no checkpoint, and whatever `CompresskitError` the data raises.
    """
    keeping = keeping or Keeping()
    refs = _with_baseline(checkpoints, baseline)
    if not refs or not all(refs):
        raise UsageError("no checkpoint to evaluate; name at least one alias, Hub id or folder")
    examples = load_data(data_ref, "eval")
    asked = sampled(examples, settings)
    hashes = [examples.info.sha256]
    if settings.tune_data is not None:
        hashes.append(_tuning_hash(settings.tune_data, examples))
    names = names or _unique_names(refs)
    with contextlib.ExitStack() as stack:
        jobs = [
            Job(ref, name, data_ref, settings, Path(), index, console.is_quiet(), console.is_verbose())
            for index, (ref, name) in enumerate(zip(refs, names, strict=True))
        ]
        found = []
        for job in jobs:
            found.append(_measure(job, hashes, keeping, stack))
            if found[-1].outcome.error is not None and len(jobs) > 1:  # the others may take their time
                console.warn(f"{job.name} cannot be scored: {found[-1].outcome.error}")
        rows = [
            _row(job, measured, keeping, is_baseline=baseline is not None and _same(job.ref, baseline))
            for job, measured in zip(jobs, found, strict=True)
        ]
        rows = compared(rows, [measured.outcome for measured in found])
        if keeping.flips:
            rows = list(_with_flips(rows, found, asked, keeping.flips))
    info = asked.info
    drawn = (examples.info.questions, settings.seed) if info.questions < examples.info.questions else (None, None)
    return Report(
        created=_now(),
        versions=_versions(),
        device=next((row.device for row in rows if row.device), {}),
        dataset=Dataset(info.path, info.sha256, info.questions, info.unanswerable, *drawn),
        rows=tuple(rows),
    )


def sampled(examples: ExampleSet, settings: EvalSettings) -> ExampleSet:
    """Return the questions that are asked: all, or whole paragraphs where the settings set a limit."""
    return examples if settings.limit is None else examples.sample_paragraphs(settings.limit, settings.seed)


def _tuning_hash(tune_data: str, examples: ExampleSet) -> str:
    tuning = load_data(tune_data, "eval")
    known = {(each.question, each.context) for each in examples}
    shared = sum((each.question, each.context) in known for each in tuning)
    if shared:
        raise UsageError(
            f"--tune-data {tune_data} shares {shared} questions with the evaluation data; "
            "tune the null threshold on other questions"
        )
    return tuning.info.sha256


def _measure(job: Job, data_hashes: Sequence[str], keeping: Keeping, stack: contextlib.ExitStack) -> _Measured:
    """Return what is known of a checkpoint, from the cache, or else from a process of its own."""
    try:
        # A file of answers stands for itself; whatever else there is becomes known by its files.
        checkpoint = sha256_file(Path(job.ref)) if Path(job.ref).is_file() else fingerprint(job.ref)
    except CompresskitError as error:
        return _Measured(Outcome.of(error), Path())
    except OSError as error:  # a name too long, a file that may not be read, a disk that fails
        reason = error.strerror or type(error).__name__
        return _Measured(Outcome.of(InputError(f"{job.ref}: cannot be read ({reason}); restore it")), Path())
    name = cache.key(checkpoint, data_hashes, job.settings)
    shard = Shard.from_environment()
    # All processes of a launcher measure together or none does; what one finds in its cache another may not.
    # What a task of the harness does is not known by its name.
    may_be_kept = shard.world == 1 and not job.settings.harness
    if keeping.use_cache and may_be_kept and (kept := cache.find(name)) is not None:
        console.info(f"{job.name}: unchanged since {_when(kept[0])}, not run again (--no-cache runs it)")
        return _Measured(*kept)
    staged = stack.enter_context(cache.staging())
    outcome = measure_apart(replace(job, folder=staged))
    if outcome.row is None:
        return _Measured(outcome, staged)
    row = replace(outcome.row, sha256=checkpoint, created=_now(), versions=_versions(), settings=job.settings.to_dict())
    outcome = replace(outcome, row=row)
    try:
        outcome.write(staged)
        return _Measured(outcome, staged if shard.rank else cache.keep(staged, name))
    except OSError as error:
        console.warn(
            f"{job.name}: its row cannot be kept ({error.strerror}); set {cache.FOLDER_VARIABLE} to a folder with room"
        )
        return _Measured(outcome, staged)


def _row(job: Job, measured: _Measured, keeping: Keeping, *, is_baseline: bool) -> Row:
    """Return the row under this evaluation's name, with its answers where the user wants them."""
    outcome = measured.outcome
    if outcome.row is None:
        row = Row(job.name, job.ref, "-", "-", False, error=outcome.error, error_code=outcome.error_code)
        return replace(row, baseline=is_baseline)
    row = replace(outcome.row, name=job.name, path=job.ref, baseline=is_baseline)
    if Path(job.ref).is_dir():  # a kept row does not know of files that came since and are not needed to run it
        row = replace(row, disk_bytes=disk_bytes(Path(job.ref)))
    answers = measured.folder / PREDICTIONS_FILE
    if not answers.is_file():  # a language model has none
        return row
    if keeping.predictions is not None and Shard.from_environment().rank == 0:
        answers = _copied(answers, keeping.predictions / f"{job.name}.json")
    # A folder that goes at the end is no place to point to.
    lasts = keeping.predictions is not None or not measured.folder.name.startswith(cache.STAGED)
    return replace(row, predictions=os.path.abspath(answers) if lasts else None)


def _copied(source: Path, target: Path) -> Path:
    """Copy a file so that it appears whole or not at all; RunFailed where it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            shutil.copyfile(source, half)
            return half.replace(target)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunFailed(f"{target}: cannot be written ({reason}); free some space, or choose another") from error


def _with_flips(rows: Sequence[Row], found: Sequence[_Measured], asked: ExampleSet, count: int) -> Iterator[Row]:
    base = next((measured for row, measured in zip(rows, found, strict=True) if row.baseline), None)
    base_answers = _answers(base)
    for row, measured in zip(rows, found, strict=True):
        answers = {} if base_answers is None or measured is base else _answers(measured)
        if base is None or base_answers is None or not answers:
            yield row
        else:
            yield replace(row, flips=flips(measured.outcome, base.outcome, answers, base_answers, asked, count))


def _answers(measured: _Measured | None) -> Mapping[str, str] | None:
    if measured is None or not len(measured.outcome.question_em):
        return None
    return read_answers(measured.folder / PREDICTIONS_FILE)


def _with_baseline(checkpoints: Sequence[str], baseline: str | None) -> list[str]:
    """Return the checkpoints, each once, the baseline in front where it is not among them."""
    refs: list[str] = []
    for ref in checkpoints:
        if not any(_same(ref, other) for other in refs):
            refs.append(ref)
    if baseline is not None and not any(_same(ref, baseline) for ref in refs):
        refs.insert(0, baseline)
    return refs


def _same(one: str, other: str) -> bool:
    """Return whether two references mean one checkpoint: the same text, or the same folder."""
    if one == other:
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _unique_names(refs: Sequence[str]) -> list[str]:
    """Return a name for each reference: the file's or folder's, with more of its path where two clash, or itself."""
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return {**package_versions(), "compresskit": compresskit.__version__}


def _when(outcome: Outcome) -> str:
    return str(outcome.row.created) if outcome.row is not None else "-"
