"""`compresskit demo`: every family and method on the built-in data, offline."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from compresskit.cli import options as flags

DENSE, SPARSITIES = "dense", (0.5, 0.9)
# A mask on a trained model is found in a third of the questions that the model itself needed.
PRUNE_QUESTIONS = 12_000
DATA = "demo"


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the checkpoints and eval.json.")
    ] = Path("runs/demo"),
    overwrite: flags.Overwrite = False,
    seed: flags.Seed = 42,
) -> None:
    """Train, prune and measure a tiny model on built-in data: the whole tool in minutes, offline."""
    from compresskit import console
    from compresskit.checkpoint.store import check_free, write_text
    from compresskit.cli import settings
    from compresskit.evaluate.evaluate import evaluate
    from compresskit.evaluate.job import EvalSettings
    from compresskit.evaluate.report import render
    from compresskit.methods import train
    from compresskit.methods.distill import DistillConfig
    from compresskit.methods.prune import apply as pruning
    from compresskit.methods.prune.config import PruneConfig
    from compresskit.training.options import TrainingOptions

    started = time.perf_counter()
    check_free(output, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    model = "demo/bert"
    lr, epochs = settings.fine_tuning(model, None, None)
    options = TrainingOptions(
        model, output / DENSE, train_data=DATA, lr=lr, epochs=epochs, seed=seed, device="cpu", overwrite=overwrite
    )
    console.info(f"training {model} from scratch, to {options.output}")
    dense = str(train.apply(options))
    checkpoints = [dense]
    for sparsity in SPARSITIES:
        target = output / f"smp-{sparsity:g}-distill"
        console.info(f"removing {sparsity:.0%} of its weights, taught by it, to {target}")
        config = PruneConfig(sparsity=sparsity)
        run = replace(options, model=dense, output=target, max_train_samples=PRUNE_QUESTIONS, epochs=1.0)
        checkpoints.append(str(pruning.apply(run, config, pruning.Teaching(DistillConfig(), dense))))
    console.info("measuring each in a process of its own")
    report = evaluate(checkpoints, DATA, EvalSettings(device="cpu"), baseline=dense)
    write_text(output / "eval.json", report.to_json())
    console.out(render(report, "table"))
    console.info(f"{output / 'eval.json'} holds these figures; all of it took {time.perf_counter() - started:.0f} s")
