"""Where else the figures of a training go: TensorBoard and Weights & Biases, by transformers' own reporters."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.errors import MissingError
from compresskit.models.folder import first_line
from compresskit.training.arguments import Reporter

if TYPE_CHECKING:
    from transformers import TrainerCallback

# The packages of which a reporter needs one; the first is the one to install.
PACKAGES: Mapping[str, tuple[str, ...]] = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}

_MENDS = {
    "tensorboard": "leave --log out: log.jsonl holds the same",
    "wandb": "run `wandb login`, or set WANDB_MODE=offline",
}


def check_reporter(name: Reporter) -> None:
    """MissingError where the package of a reporter is not installed."""
    packages = PACKAGES.get(name, ())
    if packages and not any(importlib.util.find_spec(package) for package in packages):
        raise MissingError(f"--log {name} needs a package: pip install {packages[0]}")


def reporters(name: Reporter, target: Path) -> list[TrainerCallback]:
    """The callbacks of transformers that report a run whose result goes to `target`; none for `jsonl`.

    TensorBoard's files go to `TARGET.tensorboard`, a folder for each start, unless TENSORBOARD_LOGGING_DIR names
    another place: what is in the workspace goes with it. A reporter that cannot begin raises MissingError then.
    """
    if name == "jsonl":
        return []
    from transformers.integrations import integration_utils

    if name == "wandb":
        reporter: Any = integration_utils.WandbCallback()
    else:
        reporter = integration_utils.TensorBoardCallback()
        if reporter.logging_dir is None:
            started = Path(integration_utils.default_logdir()).name
            reporter.logging_dir = str(target.with_name(f"{target.name}.tensorboard") / started)
    reporter.on_train_begin = _begin(name, reporter.on_train_begin)
    return [reporter]


def _begin(name: Reporter, begin: Callable[..., None]) -> Callable[..., None]:
    """How a reporter begins, with an error in one line where it cannot, as wandb where nobody is logged in."""

    def told(*positional: Any, **named: Any) -> None:
        try:
            begin(*positional, **named)
        except OSError:
            raise
        except Exception as error:
            raise MissingError(f"--log {name} cannot begin ({first_line(error)}); {_MENDS[name]}") from error

    return told


def end_reporting(name: Reporter) -> None:
    """Close what a finished training reported to, so that the next one in this process has a run of its own."""
    if name == "wandb":
        wandb = importlib.import_module("wandb")
        if wandb.run is not None:
            wandb.finish()
