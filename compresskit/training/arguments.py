"""What a run is told: the options that all training verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compresskit.data.mending import BadData
from compresskit.models.answering import AnswerOptions, WindowOptions
from compresskit.models.architecture import ARCHITECTURES, Architecture
from compresskit.models.prompt import Prompt
from compresskit.options import DATA, MACHINE, OUTPUT, SELECTION, TRAINING, check, like, option

if TYPE_CHECKING:
    from compresskit.models.source import Source

# Turns a finished checkpoint's folder into figures (em, f1, …, per cent) for its manifest.
Evaluator = Callable[[Path], Mapping[str, float | None]]

LARGEST_SEED = 2**32 - 1  # the bound of numpy

AttentionDropout = Literal["auto", "model", "none"]

OptimizerName = Literal["adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor"]

Reporter = Literal["jsonl", "tensorboard", "wandb"]

HELD_OUT = 0.05  # the share of the training questions that choose the state, where no other is asked for

# Fields that say where and how to run, not what: they may change between a run and its --resume.
PLACE = ("output", "resume", "overwrite", "save_steps", "cache_dir", "log")

# Fields that are told where they were given, so that a run without them is told as it was before there were any.
_WHERE_GIVEN = ("revision", "eval_steps", "patience", "select_on", "held_out", "select_data")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What every run of a method is told: the checkpoint `model` that it starts from, and the folder that it leaves."""

    model: str = option(
        MISSING,
        f"An alias (bert, t5, mamba, {', '.join(ARCHITECTURES)}; demo/bert, demo/lstm, demo/mamba and demo/t5 are "
        "built in and need no network), a Hub id, or a folder.",
        metavar="MODEL",
        argument=True,
    )
    output: Path | None = option(
        None,
        "Folder of the new checkpoint.",
        short="-o",
        metavar="DIR",
        shown="runs/<model>-<method>",
        panel=OUTPUT,
    )
    overwrite: bool = option(False, "Replace the checkpoint in the output folder.", panel=OUTPUT)
    revision: str | None = option(
        None, "Branch, tag or commit of a MODEL of the Hub.", metavar="REV", shown="the newest", panel=DATA
    )
    cache_dir: Path | None = option(
        None,
        "Where models of the Hub are kept, and looked for.",
        metavar="DIR",
        shown="that of HF_HUB_CACHE, or of the Hub's own tools",
        panel=MACHINE,
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def source(self) -> Source:
        """The checkpoint that it starts from; all models of the Hub are looked for in `cache_dir` from then on.

        Raises the errors of `resolve`, and UsageError for a revision of what is not of the Hub.
        """
        from compresskit.models.source import keep_models_in, resolve, resolve_on_hub  # numpy, which no help needs

        if self.cache_dir is not None:
            keep_models_in(self.cache_dir)
        return resolve(self.model) if self.revision is None else resolve_on_hub(self.model, self.revision)

    @property
    def target(self) -> Path:
        """The output folder of a job whose defaults are filled in."""
        assert self.output is not None
        return self.output

    def describe(self) -> dict[str, Any]:
        """All settings that decide the result, as JSON values; a revision where one was asked for."""
        told = {key: value for key, value in asdict(self).items() if key not in PLACE}
        return {key: value for key, value in told.items() if value is not None or key not in _WHERE_GIVEN}


@dataclass(frozen=True, slots=True)
class TrainingOptions(RunOptions):
    """Settings of a training run.

    `epochs` may be a fraction; `max_steps` replaces it (optimizer steps). `batch_size` counts windows for each
    process and micro-batch; `accumulate` micro-batches make a step. `lr` is the peak learning rate of the model's
    own weights, after a linear warm-up over the fraction `lr_warmup` of the steps, falling linearly to 0.
    `max_length`, `stride` and `max_answer_length` are in tokens; `prompt_template` is the prompt of a model that writes
    its answers.
    `negatives` is the number of constructed unanswerable questions for each answerable one. `dtype` is that of the
    computation (weights learn in fp32). `attention_dropout` says whether attention weights are dropped as the model's
    configuration has it. `save_steps` is the number of steps between states. `architecture` is what `model` is built
    from where that is not a checkpoint, but built from the training data. What is None has a
    default that the method or the model decides.
    """

    train_data: str | None = option(
        None,
        "What to learn from: a file (SQuAD JSON, rows as JSON, CSV or Parquet), a folder, a Hub data set, or demo.",
        metavar="DATA",
        shown="rajpurkar/squad_v2; demo for a demo model",
        panel=DATA,
    )
    bad_data: BadData = option(
        "mend",
        "Answers that do not stand at their offset: mend takes the nearest place, and leaves out what stands nowhere; "
        "skip leaves all of them out; stop ends the run.",
        panel=DATA,
    )
    max_train_samples: int | None = option(
        None, "Learn from N questions, drawn with --seed.", metavar="N", least=1, shown="all", panel=DATA
    )
    negatives: float = option(
        0.0,
        "Unanswerable questions to construct for each answerable one.",
        metavar="P",
        least=0,
        most=1,
        panel=DATA,
    )
    epochs: float | None = option(None, "Passes over the training data.", metavar="N", above=0, panel=TRAINING)
    max_steps: int | None = option(
        None, "Optimizer steps, in place of --epochs.", metavar="N", least=1, shown="as --epochs says", panel=TRAINING
    )
    batch_size: int = option(32, "Windows in one step.", metavar="N", least=1, panel=TRAINING)
    accumulate: int = option(1, "Batches whose gradients make one step.", metavar="N", least=1, panel=TRAINING)
    lr: float | None = option(
        None, "Peak learning rate of the weights that learn.", metavar="RATE", above=0, panel=TRAINING
    )
    optimizer: OptimizerName = option(
        "adamw",
        "adamw-8bit keeps moments in 8 bits, and the paged one moves them to the CPU's memory where a GPU's is full; "
        "adafactor keeps sums of rows and columns.",
        panel=TRAINING,
    )
    gradient_checkpointing: bool = option(
        False, "Compute activations twice in place of keeping them: less memory, slower steps.", panel=TRAINING
    )
    lr_warmup: float = option(
        0.06,
        "Fraction of the steps in which learning rates rise to their peak.",
        metavar="F",
        least=0,
        below=1,
        panel=TRAINING,
    )
    weight_decay: float = option(0.01, "Weight decay of the matrices that learn.", metavar="D", least=0, panel=TRAINING)
    max_grad_norm: float = option(
        1.0,
        "Longest gradient of all weights together; a longer one is scaled down to it.",
        metavar="NORM",
        above=0,
        panel=TRAINING,
    )
    max_length: int = like(WindowOptions, "max_length")
    stride: int = like(WindowOptions, "stride")
    prompt_template: Prompt | None = like(WindowOptions, "prompt_template")
    max_answer_length: int = like(
        AnswerOptions, "max_answer_length", help="Longest answer that is given in scoring, in tokens.", panel=DATA
    )
    seed: int = option(
        42,
        "Seed of everything random: order, sampling, initial weights.",
        metavar="N",
        least=0,
        most=LARGEST_SEED,
        panel=TRAINING,
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where to compute; auto takes a GPU where there is one.", panel=MACHINE
    )
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Arithmetic; auto is bfloat16 on a GPU, float32 on a CPU.", panel=MACHINE
    )
    attention_dropout: AttentionDropout = option(
        "auto",
        "Dropout of attention weights in training: model takes what the model's configuration says, none leaves it "
        "out; auto leaves it out on a CPU, where it makes a step about four times slower.",
        panel=TRAINING,
    )
    save_steps: int = option(
        500, "Steps between the states that --resume takes up.", metavar="N", least=1, panel=OUTPUT
    )
    resume: bool = option(
        False,
        "Go on with the interrupted run of this output; --max-steps or --epochs may be others than before.",
        panel=OUTPUT,
    )
    log: Reporter = option(
        "jsonl",
        "Where figures of the training go beside the checkpoint's log.jsonl: to DIR.tensorboard, or to wandb.",
        panel=OUTPUT,
    )
    eval_steps: int | None = option(
        None,
        "Score the model every N steps, and keep the state of the best EM.",
        metavar="N",
        least=1,
        shown="never; the last state is kept",
        panel=SELECTION,
    )
    patience: int | None = option(
        None,
        "Stop after N evaluations without a better EM.",
        metavar="N",
        least=1,
        shown="no early stop",
        panel=SELECTION,
    )
    select_on: Literal["train", "eval"] | None = option(
        None,
        "What chooses the state: train, questions of the training data that are held out; eval, --eval-data, on which "
        "a score is then no longer clean.",
        shown="train",
        panel=SELECTION,
    )
    held_out: float | None = option(
        None,
        "Share of the training questions to hold out, in whole paragraphs.",
        metavar="F",
        above=0,
        below=1,
        shown=str(HELD_OUT),
        panel=SELECTION,
    )
    architecture: Architecture | None = None
    select_data: str | None = None

    @property
    def windows(self) -> WindowOptions:
        """The part that puts the questions."""
        return WindowOptions(self.max_length, self.stride, self.prompt_template)

    @property
    def data(self) -> str:
        """The training data of a job whose defaults are filled in."""
        assert self.train_data is not None
        return self.train_data

    @property
    def share_held_out(self) -> float | None:
        """The fraction of the training questions that is not learned from; None where nothing is held out."""
        if self.eval_steps is None or self.select_on == "eval":
            return None
        return HELD_OUT if self.held_out is None else self.held_out

    @property
    def peak_lr(self) -> float:
        """The learning rate of a job whose defaults are filled in."""
        assert self.lr is not None
        return self.lr

    def planned_steps(self, windows: int, processes: int) -> int:
        """The optimizer steps of a run that learns from so many windows, by so many processes."""
        a_pass = math.ceil(windows / (self.batch_size * self.accumulate * processes))
        return self.max_steps or math.ceil((self.epochs or 1.0) * a_pass)

    def describe(self) -> dict[str, Any]:
        """All settings that decide the result, as JSON values, in the order of the fields."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in PLACE}
        values = {name: value for name, value in values.items() if value is not None or name not in _WHERE_GIVEN}
        built = None if self.architecture is None else asdict(self.architecture)
        prompt = None if self.prompt_template is None else self.prompt_template.to_dict()
        return {**values, "max_steps": self.max_steps or 0, "prompt_template": prompt, "architecture": built}
