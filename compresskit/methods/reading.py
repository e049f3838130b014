"""What a run reads of this machine's files, so that nothing is written over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compresskit.checkpoint.reading import check_regular
from compresskit.data.load import local_files
from compresskit.methods.job import Job
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.models.kinds import places
from compresskit.models.source import Source, resolve
from compresskit.training.arguments import TrainingOptions


def read_by(job: Job) -> Iterator[Path]:
    """The checkpoints of a completed job (its model, a given teacher, what they stand on), its data and its prompt.

    Raises the errors of `resolve`, and InputError for a broken manifest.
    """
    yield from job.reads
    prompt = job.training.prompt_template if isinstance(job.options, TrainingOptions) else None
    if prompt is not None and prompt.file is not None:
        yield prompt.file
    architecture = job.training.architecture if isinstance(job.options, TrainingOptions) else None
    if architecture is not None:
        for path in architecture.reads():
            check_regular(path)  # at once: it is read after the data
            yield path
    source = None if architecture is not None else job.options.source
    if source is not None:
        yield from places(source)
    if job.distillation.teacher is not None:
        yield from places(resolve(job.distillation.teacher))
    for ref in data_of(job, source):
        yield from local_files(ref)


def data_of(job: Job, source: Source | None) -> list[str]:
    """The data sets that a completed job reads, `source` being its model: to train, or to calibrate."""
    if isinstance(job.options, TrainingOptions):
        return [job.options.data]
    if not isinstance(job.config, QuantizeConfig) or not job.config.calibrate:
        return []
    if job.config.train_data is not None:
        return [job.config.train_data]
    # What calibrates is what the checkpoint learned from last.
    steps = source.manifest.steps if source is not None and source.manifest is not None else ()
    return [step.data.path for step in steps if step.data is not None][-1:]
