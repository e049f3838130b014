"""What a job needs that is not always installed, told before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from compresskit import packages
from compresskit.data.load import require_reader
from compresskit.methods.job import Job, with_data
from compresskit.models import kinds
from compresskit.models.source import Source
from compresskit.training.arguments import TrainingOptions


@runtime_checkable
class NeedsPackages(Protocol):
    """A method's own options of which some are carried out by a package that is an extra."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The modules that these options need."""

    @property
    def needs_them(self) -> str:
        """The option that does, as it is typed."""


def require_packages(job: Job, bits: int | None = None) -> None:
    """MissingError where a package is not installed that the options of a job, or its data, need.

    `bits` is in how many its base is packed first, as qlora does; None where it is not.

    So too for a teacher that lies here. What its model needs is known once that is looked at, which comes first anyhow
    (`kinds.require_packages`). Raises InputError where the data can be neither a file nor a data set.
    """
    if bits is not None:
        packages.require("bitsandbytes", what="qlora")
    if isinstance(job.config, NeedsPackages) and job.config.packages:
        packages.require(*job.config.packages, what=job.config.needs_them)
    if not isinstance(job.options, TrainingOptions):
        return
    options = with_data(job.options)
    if options.negatives:
        packages.require("bm25s", what="--negatives")
    if "8bit" in options.optimizer:
        packages.require("bitsandbytes", what=f"--optimizer {options.optimizer}")
    teacher = job.distillation.teacher
    if teacher is not None and os.path.isdir(teacher):
        kinds.require_packages(Source(teacher, Path(teacher)))
    for ref in (options.train_data, options.select_data):
        if ref is not None:
            require_reader(ref)
