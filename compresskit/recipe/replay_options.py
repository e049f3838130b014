"""What a replay is told. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.options import DATA, OUTPUT, check, like, option
from compresskit.training.arguments import RunOptions, TrainingOptions

COMPARISON = "Comparison"


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Which checkpoint is made again, where what it was made from lies now, and what difference is accepted."""

    checkpoint: str = option(MISSING, "A checkpoint with a manifest of compresskit.", metavar="CKPT", argument=True)
    output: Path | None = like(
        RunOptions, "output", help="Folder of the checkpoint made again.", shown="runs/<CKPT>-replay"
    )
    all: bool = option(
        False, "Make every step again, the earliest first; not the last one alone, from its base.", panel=DATA
    )
    base: str | None = option(
        None,
        "Where what the first step starts from lies now; its weights have to be those of then.",
        metavar="CKPT",
        shown="as the manifest names it",
        panel=DATA,
    )
    teacher: str | None = option(
        None, "Where the teacher lies now.", metavar="CKPT", shown="as the manifest names it", panel=DATA
    )
    train_data: tuple[str, ...] = option(
        (),
        "Where the training data lie now; their hash has to be that of then. May be repeated.",
        metavar="DATA",
        shown="as the manifest names them",
        panel=DATA,
    )
    eval_data: str | None = like(
        EvaluatorOptions, "eval_data", help="Score the checkpoint on these questions, as the first one was."
    )
    tolerance: float = option(
        0.0,
        "Largest difference to accept, in parts of a tensor's largest number; of masks and codes the share that "
        "differs. On a GPU, where sums have no fixed order, give one.",
        metavar="X",
        least=0,
        panel=COMPARISON,
    )
    resume: bool = like(TrainingOptions, "resume", help="Go on with the interrupted replay of this output.")
    overwrite: bool = like(RunOptions, "overwrite")
    plan: bool = option(False, "Print what it would make, of what; write nothing.", panel=OUTPUT)
    json: bool = option(False, "Print the comparison as one JSON object.", panel=COMPARISON)

    def __post_init__(self) -> None:
        check(self)
