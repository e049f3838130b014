"""`compresskit demo`: every family and method on the built-in data, offline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from compresskit.cli.flags import with_flags
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.options import like, option
from compresskit.training.arguments import RunOptions, TrainingOptions

DATA = "demo"


@dataclass(frozen=True)
class Part:
    """What one family shows: a model trained on so many `questions` at `lr`, pruned to each of the `sparsities`.

    And kept in 8 bits; and packed in each of the `bits`, with an adapter on that. A mask or an adapter on a trained
    model is found in far fewer questions (`more_questions`) than the model itself needed.
    """

    model: str
    questions: int
    sparsities: tuple[float, ...]
    more_questions: int
    lr: float
    bits: tuple[int, ...] = ()

    def jobs(self, options: DemoOptions) -> Iterator[tuple[str, Job]]:
        """What is run, with what is said of it, in folders within the demo's output."""
        name = self.model.removeprefix("demo/")
        dense = options.output / f"{name}-dense"
        common = TrainingOptions(
            self.model,
            dense,
            train_data=DATA,
            epochs=1,
            seed=options.seed,
            device="cpu",
            overwrite=options.overwrite,
        )
        trained = replace(common, max_train_samples=self.questions, lr=self.lr)
        yield f"training {self.model} from scratch, to {dense}", Job("train", trained, TrainConfig())
        for sparsity in self.sparsities:
            target = options.output / f"{name}-smp-{sparsity:g}-distill"
            pruned = replace(common, model=str(dense), output=target, max_train_samples=self.more_questions)
            taught = Distillation(distill=True, teacher=str(dense))
            said = f"removing {sparsity:.0%} of its weights, taught by it, to {target}"
            yield said, Job("prune", pruned, PruneConfig(sparsity=sparsity), taught)
        small = options.output / f"{name}-8bit"
        whole = QuantizeOptions(model=str(dense), output=small, overwrite=options.overwrite)
        yield f"keeping its weights in 8 bits, to {small}", Job("quantize", whole, QuantizeConfig())
        for bits in self.bits:
            packed, adapter = (options.output / f"{name}-{bits}bit{more}" for more in ("", "-lora"))
            source = QuantizeOptions(model=str(dense), output=packed, overwrite=options.overwrite)
            config = QuantizeConfig(bits=bits, backend="bitsandbytes")
            yield f"packing its weights in {bits} bits, to {packed}", Job("quantize", source, config)
            adapted = replace(common, model=str(packed), output=adapter, max_train_samples=self.more_questions)
            yield f"training an adapter on those, to {adapter}", Job("lora", adapted, LoraConfig())


# As many questions as it takes each to answer most of them.
PARTS = (
    Part("demo/bert", 28_000, (0.5, 0.9), 6_000, lr=2e-3, bits=(4,)),
    Part("demo/lstm", 6_000, (0.5,), 2_000, lr=5e-3),
    Part("demo/t5", 8_000, (0.5,), 2_000, lr=2e-3),
    Part("demo/mamba", 6_000, (0.5,), 2_000, lr=1e-3),
)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Where the demo leaves its checkpoints, and the seed of all its runs."""

    output: Path = option(Path("runs/demo"), "Folder for the checkpoints and eval.json.", short="-o", metavar="DIR")
    overwrite: bool = like(RunOptions, "overwrite")
    seed: int = like(TrainingOptions, "seed")


@with_flags()
def demo(options: DemoOptions) -> None:
    """Train, prune, quantize, adapt and measure tiny models on built-in data: the whole tool in minutes, offline."""
    from compresskit import console
    from compresskit.checkpoint.outputs import check_file, check_folder
    from compresskit.checkpoint.store import write_text
    from compresskit.evaluate.evaluate import evaluate
    from compresskit.evaluate.report import render
    from compresskit.evaluate.settings import EvalSettings
    from compresskit.methods.needed import require_packages
    from compresskit.methods.run import run

    started = time.perf_counter()
    output = options.output
    jobs = [each for part in PARTS for each in part.jobs(options)]
    if not options.overwrite:
        check_folder(output, overwrite=False)
    for _, job in jobs:
        require_packages(job)
        check_folder(job.options.target, overwrite=options.overwrite)
    check_file(output / "eval.json", flag="-o", makes_folder=True)
    output.mkdir(parents=True, exist_ok=True)
    checkpoints = []
    for said, job in jobs:
        console.info(said)
        checkpoints.append(str(run(job)))
    console.info("measuring each in a process of its own")
    report = evaluate(checkpoints, DATA, EvalSettings(device="cpu"), baseline=checkpoints[0])
    write_text(output / "eval.json", report.to_json())
    console.out(render(report, "table"))
    console.info(f"{output / 'eval.json'} holds these figures; all of it took {time.perf_counter() - started:.0f} s")
