"""Where else the figures of a training go: TensorBoard and Weights & Biases, by transformers' own reporters."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.errors import MissingError
from compresskit.training.arguments import Reporter

if TYPE_CHECKING:
    from transformers import TrainerCallback

# The packages of which a reporter needs one; the first is the one to install.
PACKAGES: Mapping[str, tuple[str, ...]] = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


def check_reporter(name: Reporter) -> None:
    """MissingError where the package of a reporter is not installed."""
    packages = PACKAGES.get(name, ())
    if packages and not any(importlib.util.find_spec(package) for package in packages):
        raise MissingError(f"--log {name} needs a package: pip install {packages[0]}")


def reporters(name: Reporter, target: Path) -> list[TrainerCallback]:
    """The callbacks of transformers that report a run whose result goes to `target`; none for `jsonl`.

    TensorBoard's files go to `TARGET.tensorboard`, a folder for each start, unless TENSORBOARD_LOGGING_DIR names
    another place: what is in the workspace goes with it.
    """
    if name == "jsonl":
        return []
    from transformers.integrations import integration_utils

    if name == "wandb":
        return [integration_utils.WandbCallback()]
    board: Any = integration_utils.TensorBoardCallback()
    if board.logging_dir is None:
        started = Path(integration_utils.default_logdir()).name
        board.logging_dir = str(target.with_name(f"{target.name}.tensorboard") / started)
    return [board]


def end_reporting(name: Reporter) -> None:
    """Close what a finished training reported to, so that the next one in this process has a run of its own."""
    if name == "wandb":
        wandb = importlib.import_module("wandb")
        if wandb.run is not None:
            wandb.finish()
