"""The scoring of a checkpoint right after it was made, for its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from compresskit import console
from compresskit.errors import RunFailed
from compresskit.options import DATA, check, option
from compresskit.training.arguments import Evaluator, TrainingOptions

FIGURES = ("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "best_em")


@dataclass(frozen=True, slots=True)
class EvaluatorOptions:
    """On which questions a new checkpoint is scored; None for none."""

    eval_data: str | None = option(
        None,
        "What to score the result on, in the same forms.",
        metavar="DATA",
        shown="none, no scoring",
        panel=DATA,
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def reads(self) -> tuple[Path, ...]:
        """The files that scoring reads."""
        from compresskit.data.load import local_files

        return () if self.eval_data is None else tuple(local_files(self.eval_data))

    def choosing(self, training: TrainingOptions) -> TrainingOptions:
        """The options of a training with the data set that chooses its state, where it is this one."""
        return replace(training, select_data=self.eval_data) if training.select_on == "eval" else training

    def evaluator(self, training: TrainingOptions) -> Evaluator | None:
        """A function that scores a finished checkpoint in a process of its own, as it was trained; None without data.

        The data is read at once: a fault of it must not come to light after hours of training. Raises InputError for
        it.
        """
        if self.eval_data is None:
            return None
        from compresskit.data.load import load
        from compresskit.evaluate.blind_record import check_not_blind

        data = self.eval_data
        check_not_blind(data, "--eval-data")
        load(data, "eval")
        if training.select_data is not None:
            console.warn(
                f"--select-on eval: {data} chooses the state, so that a score on it is no longer clean (too good); "
                "keep other questions for the figures that you publish"
            )

        def score(folder: Path) -> Mapping[str, float | None]:
            from compresskit.evaluate.evaluate import Extras, evaluate
            from compresskit.evaluate.settings import EvalSettings

            settings = EvalSettings(
                device=training.device,
                max_length=training.max_length,
                stride=training.stride,
                max_answer_length=training.max_answer_length,
                latency_questions=0,
            )
            row = evaluate([str(folder)], data, settings, names=["scoring"], extras=Extras(overlap=False)).rows[0]
            if row.error is not None:
                raise RunFailed(row.error)
            return {name: getattr(row, name) for name in FIGURES}

        return score
