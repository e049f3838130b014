"""Options that several verbs share: one `Annotated` type each, with its help text and its bounds.

A verb writes ``epochs: Epochs = 3.0``: the default stands in the verb's signature, and in its help text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compresskit.models.architecture import ARCHITECTURES

DEFAULT_MAX_LENGTH = 384
DEFAULT_STRIDE = 128

LARGEST_SEED = 2**32 - 1  # the bound of numpy

# Headings of the help text.
DATA = "Data"
TRAINING = "Training"
MACHINE = "Machine"
OUTPUT = "Output"


def default_output(model: str, method: str) -> Path:
    """The folder that a training verb writes to when no ``--output`` is given.

    Args:
        model: alias, Hub id or folder, as on the command line.
        method: the method's name.

    Returns:
        ``runs/<model>-<method>``; <model> is a folder's own name, or the given name with ``-`` for ``/``.
    """
    folder = Path(model)
    name = folder.resolve().name if folder.is_dir() else model.replace("/", "-")
    return Path("runs") / f"{name}-{method}"


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="An alias (bert, lstm; demo/bert and demo/lstm are built in and need no network), a Hub id, or a folder.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Folder of the new checkpoint.",
        show_default="runs/<model>-<method>",
        rich_help_panel=OUTPUT,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the interrupted run of this output.", rich_help_panel=OUTPUT),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace what stands in the output folder.", rich_help_panel=OUTPUT),
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Print parameters, bytes, expected memory and steps; train nothing, write nothing.",
        rich_help_panel=OUTPUT,
    ),
]

TrainData = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="What to learn from: SQuAD-format JSON (plain or .gz), a Hub data set, or demo.",
        show_default="rajpurkar/squad_v2; demo for a demo model",
        rich_help_panel=DATA,
    ),
]
EvalData = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="What to score the result on, in the same forms.",
        show_default="none, no scoring",
        rich_help_panel=DATA,
    ),
]
MaxTrainSamples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Learn from N questions, drawn with --seed.",
        show_default="all",
        rich_help_panel=DATA,
    ),
]
MaxLength = Annotated[
    int,
    typer.Option(
        metavar="TOKENS",
        min=16,
        help="Tokens of one window: question and a part of the context.",
        rich_help_panel=DATA,
    ),
]
Stride = Annotated[
    int,
    typer.Option(
        metavar="TOKENS",
        min=0,
        help="Tokens that neighbouring windows of one context share.",
        rich_help_panel=DATA,
    ),
]
Negatives = Annotated[
    float,
    typer.Option(
        metavar="P",
        min=0.0,
        max=1.0,
        help="Unanswerable questions to construct for each answerable one.",
        rich_help_panel=DATA,
    ),
]

Epochs = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="N",
        help="Passes over the training data.",
        show_default=f"3; {''.join(f'{built.epochs:g} for {name}; ' for name, built in ARCHITECTURES.items())}"
        "1 for a demo model",
        rich_help_panel=TRAINING,
    ),
]
MaxSteps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Optimizer steps, in place of --epochs.",
        show_default="as --epochs says",
        rich_help_panel=TRAINING,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Windows in one step.", rich_help_panel=TRAINING)]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        min=0.0,
        metavar="RATE",
        help="Peak learning rate of the weights.",
        show_default=f"5e-5; {''.join(f'{built.lr:g} for {name}; ' for name, built in ARCHITECTURES.items())}"
        "0.002 for a demo model",
        rich_help_panel=TRAINING,
    ),
]
EvalBatchSize = Annotated[
    int, typer.Option("--batch-size", min=1, metavar="N", help="Windows in one batch.", rich_help_panel=MACHINE)
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        max=LARGEST_SEED,
        metavar="N",
        help="Seed of everything random: order, sampling, initial weights.",
        rich_help_panel=TRAINING,
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where to compute; auto takes a GPU where there is one.", rich_help_panel=MACHINE),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Arithmetic; auto is bfloat16 on a GPU, float32 on a CPU.", rich_help_panel=MACHINE),
]

Accumulate = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Batches whose gradients make one step.", rich_help_panel=TRAINING),
]
SaveSteps = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Steps between the states that --resume takes up.", rich_help_panel=OUTPUT),
]
