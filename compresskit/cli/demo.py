"""`compresskit demo`: every family and method on the built-in data, offline."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from compresskit.cli import options as flags

DATA = "demo"


@dataclass(frozen=True)
class Part:
    """What one family shows: a model trained on so many `questions` at `lr`, pruned to each of the `sparsities`.

    A mask on a trained model is found in far fewer questions than the model itself needed.
    """

    model: str
    questions: int
    sparsities: tuple[float, ...]
    prune_questions: int
    lr: float


# As many questions as it takes each to answer most of them.
PARTS = (
    Part("demo/bert", 28_000, (0.5, 0.9), 6_000, lr=2e-3),
    Part("demo/lstm", 6_000, (0.5,), 2_000, lr=5e-3),
)


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the checkpoints and eval.json.")
    ] = Path("runs/demo"),
    overwrite: flags.Overwrite = False,
    seed: flags.Seed = 42,
) -> None:
    """Train, prune and measure tiny models on built-in data: the whole tool in minutes, offline."""
    from compresskit import console
    from compresskit.checkpoint.store import check_free, write_text
    from compresskit.evaluate.evaluate import evaluate
    from compresskit.evaluate.report import render
    from compresskit.evaluate.settings import EvalSettings
    from compresskit.methods import train
    from compresskit.methods.distill import DistillConfig
    from compresskit.methods.prune import apply as pruning
    from compresskit.methods.prune.config import PruneConfig
    from compresskit.training.options import TrainingOptions

    started = time.perf_counter()
    check_free(output, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    checkpoints = []
    for part in PARTS:
        name = part.model.removeprefix("demo/")
        options = TrainingOptions(
            part.model,
            output / f"{name}-dense",
            train_data=DATA,
            max_train_samples=part.questions,
            lr=part.lr,
            epochs=1,
            seed=seed,
            device="cpu",
            overwrite=overwrite,
        )
        console.info(f"training {part.model} from scratch, to {options.output}")
        dense = str(train.apply(options))
        checkpoints.append(dense)
        for sparsity in part.sparsities:
            target = output / f"{name}-smp-{sparsity:g}-distill"
            console.info(f"removing {sparsity:.0%} of its weights, taught by it, to {target}")
            run = replace(options, model=dense, output=target, max_train_samples=part.prune_questions)
            teaching = pruning.Teaching(DistillConfig(), dense)
            checkpoints.append(str(pruning.apply(run, PruneConfig(sparsity=sparsity), teaching)))
    console.info("measuring each in a process of its own")
    report = evaluate(checkpoints, DATA, EvalSettings(device="cpu"), baseline=checkpoints[0])
    write_text(output / "eval.json", report.to_json())
    console.out(render(report, "table"))
    console.info(f"{output / 'eval.json'} holds these figures; all of it took {time.perf_counter() - started:.0f} s")
