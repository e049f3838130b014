"""Which state of a training is kept: the one that answers best, asked every so many steps (early stopping).

Prechelt 1998, "Early Stopping - But When?". The questions that choose have no part in the training. Where they are
those that the checkpoint is scored on later, that score is no longer clean, which is told.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import nn

from compresskit import console
from compresskit.checkpoint.seal import check_seal, sealed_folder
from compresskit.checkpoint.store import read_json, write_json
from compresskit.data.examples import ExampleSet
from compresskit.data.match import Golds
from compresskit.errors import UsageError
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import TrainableModel
from compresskit.options import refuse
from compresskit.text import counted
from compresskit.training import state
from compresskit.training.arguments import TrainingOptions
from compresskit.training.computing import compute_dtype, computing_in

FILE = "selection.json"
_PREFIX = "best-"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the evaluations up to a moment came to: the best one's step, EM and F1 (per cent), and how many there were.

    `since` counts those after the best one; the last one was after `asked` steps.
    """

    step: int = 0
    em: float = -1.0
    f1: float = 0.0
    evaluations: int = 0
    since: int = 0
    asked: int = 0


class Selection:
    """Asks a model `examples` every `options.eval_steps` steps, and keeps what learned at the best EM in `work`.

    `comparable` tells whether a state, at a fraction of the run's steps done, is one that could be the result; within
    `as_finished` the model answers as the finished checkpoint would. Of equal states the earliest is kept.
    """

    def __init__(
        self,
        options: TrainingOptions,
        loaded: TrainableModel,
        examples: ExampleSet,
        work: Path,
        comparable: Callable[[float], bool] = lambda done: True,
        as_finished: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        assert options.eval_steps is not None
        self.options, self.loaded, self.examples, self.work = options, loaded, examples, work
        self.every, self.patience = options.eval_steps, options.patience
        self._comparable, self._as_finished = comparable, as_finished
        self.standing = Standing()
        self._in_a_state = 0  # the step of the best one when the last state was saved

    @property
    def is_over(self) -> bool:
        """Whether there were as many evaluations without a better EM as the patience allows."""
        return self.patience is not None and self.standing.since >= self.patience

    def is_due(self, step: int, last: int) -> bool:
        """Whether the model is asked after `step` of `last` steps: at every so many, and at the end, once."""
        if step <= self.standing.asked or (step % self.every and step != last):
            return False
        return self._comparable(_done(step, last))

    def begin(self, resumed: Path | None, main: bool, last: int) -> None:
        """Take up the standing of a state, or none; what was kept after that state goes. Tell when evaluations begin.

        Raises InputError where what is kept is not as it was written.
        """
        self.standing = Standing() if resumed is None else Standing(**read_json(resumed / FILE))
        self._in_a_state = self.standing.step
        if main:
            self._drop(but={self.standing.step})
        if self.standing.step:
            check_seal(self._folder)
        if resumed is None:
            for line in told_late(self.options, last, self._comparable):
                console.info(line)

    def evaluate(self, step: int, main: bool) -> dict[str, float]:
        """Ask the model after `step` steps; EM and F1, per cent. Every process asks its part, and the first one writes.

        Raises the errors of answering.
        """
        em, f1 = self._asked()
        known = self.standing
        count, better = known.evaluations + 1, em > known.em
        if better:
            self.standing = Standing(step, em, f1, count, asked=step)
            if main:
                with sealed_folder(self._folder) as folder:
                    state.save_parameters(folder, self._model.named_parameters())
                self._drop(but={step, self._in_a_state})
        else:
            self.standing = replace(known, evaluations=count, since=known.since + 1, asked=step)
        told = f"the best so far (before: {known.em:.2f})" if better and count > 1 else f"best: step {known.step}"
        console.info(
            f"step {step}: EM {em:.2f}, F1 {f1:.2f} on {counted(len(self.examples), 'question')}"
            + (f"; {told}" if count > 1 else "")
        )
        return {"eval_em": em, "eval_f1": f1}

    def write(self, folder: Path) -> None:
        """Write the standing into the folder of a state that is not sealed yet."""
        write_json(folder / FILE, asdict(self.standing))

    def saved(self) -> None:
        """A state with this standing is saved: what was kept for older ones goes."""
        self._in_a_state = self.standing.step
        self._drop(but={self.standing.step})

    def restore(self, steps: int) -> dict[str, Any]:
        """Put the best state into the model, after a training of `steps` steps; its figures for the manifest."""
        check_seal(self._folder)
        state.load_parameters(self._folder, self._model.named_parameters())
        known, info = self.standing, self.examples.info
        why = f", after {counted(self.patience or 0, 'evaluation')} without a better EM" if self.is_over else ""
        console.info(
            f"the state of step {known.step} of {steps} is kept: EM {known.em:.2f}, best of {known.evaluations}{why}"
        )
        return {
            "on": self.options.select_on or "train",
            "data": info.path,
            "sha256": info.sha256,
            "questions": info.questions,
            "unanswerable": info.unanswerable,
            "paragraphs": info.paragraphs,
            **{name: getattr(known, name) for name in ("step", "em", "f1", "evaluations")},
            "stopped_early": self.is_over,
        }

    @property
    def _model(self) -> nn.Module:
        return self.loaded.model

    @property
    def _folder(self) -> Path:
        return self.work / f"{_PREFIX}{self.standing.step:08d}"

    def _drop(self, but: set[int]) -> None:
        for path in self.work.glob(f"{_PREFIX}*"):
            if path.name.removeprefix(_PREFIX).lstrip("0") not in {str(step) for step in but if step}:
                shutil.rmtree(path)

    def _asked(self) -> tuple[float, float]:
        """EM and F1 over all questions, each process asking every so many of them; nothing random moves on."""
        processes, device = PartialState(), next(self._model.parameters()).device
        mine = self.examples.select(range(processes.process_index, len(self.examples), processes.num_processes))
        was_training = self._model.training
        sums = torch.zeros(2, dtype=torch.float64)
        self._model.eval()
        try:
            with (
                torch.random.fork_rng([device] if device.type == "cuda" else []),
                computing_in(compute_dtype(self.options), device),
                self._as_finished(),
            ):
                answers = self.loaded.task.answer(self.loaded, mine, answering(self.options))
                for example, prediction in zip(mine, answers, strict=True):
                    em, f1 = Golds(answer.text for answer in example.answers).score(prediction.text)
                    sums += torch.tensor([em, f1], dtype=torch.float64)
        finally:
            self._model.train(was_training)
        if processes.num_processes > 1:
            sums = reduce(sums.to(device), "sum").cpu()
        em, f1 = (100 * sums / len(self.examples)).tolist()
        return em, f1


def check_selection(options: TrainingOptions) -> None:
    """UsageError for an option of the choice that has no effect, or lacks what it needs."""
    if options.eval_steps is None:
        refuse(options, ("patience", "select_on", "held_out"), "without --eval-steps")
    if options.select_on == "eval":
        refuse(options, ("held_out",), "with --select-on eval")
        if options.select_data is None:
            raise UsageError("--select-on eval needs questions to choose the state on; give --eval-data")


def answering(options: TrainingOptions) -> AnswerOptions:
    """How the questions are asked that choose the state: as the checkpoint is scored later, one answer each."""
    return AnswerOptions(
        max_length=options.max_length,
        stride=options.stride,
        batch_size=options.batch_size,
        max_answer_length=options.max_answer_length,
        prompt_template=options.prompt_template,
    )


def told(options: TrainingOptions, chosen_on: ExampleSet) -> str:
    """How the state is chosen, in one line, before the run or its plan."""
    info = chosen_on.info
    number, paragraphs = counted(info.questions, "question"), counted(info.paragraphs, "paragraph")
    where = f"of {options.select_data}" if options.select_data else f"of {paragraphs}, held out of {info.path}"
    stop = f"; ends after {options.patience} without a better one" if options.patience else ""
    return (
        f"evaluates every {counted(options.eval_steps or 0, 'step')} on {number} {where} ({info.unanswerable} "
        f"unanswerable), and keeps the state of the best EM{stop}"
    )


def told_late(options: TrainingOptions, last: int, comparable: Callable[[float], bool]) -> list[str]:
    """A line that tells when evaluations begin in a run of `last` steps, where the first ones are left out."""
    every = min(options.eval_steps or last, last)
    first = next((step for step in range(every, last, every) if comparable(_done(step, last))), last)
    late = f"the state is chosen from step {first} on: earlier ones have not reached the sparsity, and do not compare"
    return [late] if first > every else []


def _done(step: int, last: int) -> float:
    """What fraction of a run of `last` steps the objective heard of in this step, counted from 1."""
    return (step - 1) / max(last - 1, 1)
