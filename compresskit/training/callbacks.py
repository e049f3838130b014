"""What happens beside the training steps: the data order of each epoch, the log, and the progress bar."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compresskit import console
from compresskit.checkpoint.reading import read_bytes
from compresskit.text import finite_or_none, to_json
from compresskit.training.clock import Stopwatch
from compresskit.training.sampler import LengthGroupedSampler

Fields = Callable[[], Mapping[str, float]]
# What tells figures of a step from the Trainer's last words.
_OF_A_STEP = frozenset({"loss", "eval_em"})
# What the bar does not show of them.
_NOT_SHOWN = ("grad_norm", "learning_rate", "epoch")
_SHOWN_AS = {"eval_em": "EM", "eval_f1": "F1"}
# Bytes of a log, a line for each ten steps.
_LONGEST = 1 << 30


class EpochOrder(TrainerCallback):
    """Tells the sampler which epoch begins, also where a resumed run begins in the middle of one."""

    def __init__(self, sampler: LengthGroupedSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set the epoch from the run's own count."""
        self.sampler.epoch = int(state.epoch or 0)


class GoOn(TrainerCallback):
    """Lets a run count on from its earlier parts: calls `go_on` when the Trainer has set its counts to nothing."""

    def __init__(self, go_on: Callable[[], None]) -> None:
        self.go_on = go_on

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Call it."""
        self.go_on()


class JsonLog(TrainerCallback):
    """Appends every logged figure to a JSON-lines file.

    A line tells step and epoch, and loss, penalty, grad_norm, learning_rate and what the method adds; or EM and F1.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Forget lines of steps that a resumed run takes again; a run too short for a line leaves an empty log."""
        if state.is_world_process_zero:
            mend = "remove it to go on"
            before = read_bytes(self.path, mend, _LONGEST) if os.path.lexists(self.path) else b""
            lines = before.decode(errors="replace").splitlines()
            kept = [line for line in lines if _step(line) <= state.global_step]
            self.path.write_text("".join(line + "\n" for line in kept))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Write one line."""
        if state.is_world_process_zero and not _OF_A_STEP.isdisjoint(logs):
            line = {"step": state.global_step, "epoch": state.epoch, **logs}
            with self.path.open("a") as file:
                file.write(to_json(finite_or_none(line)) + "\n")


def _step(line: str) -> float:
    """Step of a log line; a line that was cut by a crash, or is not ours, counts as one to forget."""
    with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float(json.loads(line)["step"])
    return float("inf")


class Progress(TrainerCallback):
    """Shows steps, the figures that are logged and examples/s; sees to it that the last step is logged.

    The rate and the time are those of the whole run, of which the steps that are resumed took `before` seconds.
    """

    def __init__(self, examples_per_step: int) -> None:
        self.examples_per_step = examples_per_step
        self.shown: dict[str, float] = {}
        self.bar: Any = None
        self.before = 0.0
        self.watch = Stopwatch()
        self.stack = contextlib.ExitStack()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar."""
        self.watch = Stopwatch(self.before)
        self.bar = self.stack.enter_context(console.progress(state.max_steps, "training", "steps", self.before))
        if state.global_step:
            self._show(state)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Take up the newest figures."""
        if not _OF_A_STEP.isdisjoint(logs):
            new = {_SHOWN_AS.get(name, name): value for name, value in logs.items() if name not in _NOT_SHOWN}
            self.shown = dict(sorted((self.shown | new).items(), key=lambda item: item[0] in _SHOWN_AS.values()))
            self._show(state)  # the last line of a run comes after its last step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        self._show(state)
        if state.global_step == state.max_steps:
            control.should_log = True  # so that the log holds the run's end, wherever the last interval stops

    def _show(self, state: TrainerState) -> None:
        seconds = self.watch.seconds
        rate = {"examples/s": state.global_step * self.examples_per_step / seconds} if seconds > 0 else {}
        self.bar.update(state.global_step, **self.shown, **rate)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Give the terminal back, also where the training did not come to its end."""
        self.stack.close()
