"""What a verb that makes a checkpoint does: its job, how the result is scored, and in how many bits qlora packs.

The command line, a recipe and the Python API all run their jobs here. Nothing here needs torch until it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.job import Job
from compresskit.methods.needed import require_packages
from compresskit.methods.quantize.config import QloraConfig
from compresskit.recipe.verbs import Verb, made
from compresskit.training.arguments import TrainingOptions

if TYPE_CHECKING:
    from compresskit.methods.run import Outline
    from compresskit.training.plan import Plan


@dataclass(frozen=True, slots=True)
class Work:
    """A job, on which questions its result is scored, and in how many bits its base is packed first (None: it is not).

    Raises the errors of reading the data that score, as soon as it runs or is planned.
    """

    job: Job
    scoring: EvaluatorOptions = field(default_factory=EvaluatorOptions)
    bits: int | None = None

    @property
    def trains(self) -> bool:
        """Whether it learns from data."""
        return isinstance(self.job.options, TrainingOptions)

    def require(self) -> None:
        """MissingError where a package that it needs is not installed, as far as its options and its data tell."""
        require_packages(self.job, self.bits)

    def run(self) -> Path:
        """Do it; the folder of the new checkpoint. Raises what `methods.run.run` raises."""
        from compresskit.methods.qlora import run_qlora
        from compresskit.methods.run import run

        job = self._whole()
        evaluator = self.scoring.evaluator(job.training) if self.trains else None
        return run(job, evaluator) if self.bits is None else run_qlora(job, self.bits, evaluator)

    def plans(self) -> list[Plan]:
        """What each run would do where it trains, without doing it; raises what that finds before it computes."""
        from compresskit.methods.qlora import plan_qlora
        from compresskit.methods.run import plan

        job = self._whole()
        self.scoring.evaluator(job.training)
        return plan(job) if self.bits is None else plan_qlora(job, self.bits)

    def outline(self) -> Outline:
        """What it would do where it learns nothing, without doing it."""
        from compresskit.methods.run import outline

        return outline(self.job)

    def _whole(self) -> Job:
        """The job with the data that choose its state, and all that it reads."""
        if not self.trains:
            return self.job
        return replace(self.job, options=self.scoring.choosing(self.job.training), reads=self.scoring.reads)


def work_of(verb: Verb, values: Mapping[str, Any], job: Job | None = None) -> Work:
    """What a verb does by the values given of its options, `model` among them; `job` is theirs where it is known.

    Raises UsageError where a value cannot be, or has no effect.
    """
    bits = made(QloraConfig, values).bits if QloraConfig in verb.kinds else None
    return Work(job or verb.job(values), made(EvaluatorOptions, values), bits)
