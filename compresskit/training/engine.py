"""The training engine: transformers.Trainer with our objective, data order, states, log and errors."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from compresskit.checkpoint.seal import check_seal
from compresskit.errors import RunFailed, UsageError
from compresskit.models.device import resolve_device
from compresskit.models.task import Batch, Items
from compresskit.training import state
from compresskit.training.allocator import give_back_freed
from compresskit.training.arguments import TrainingOptions
from compresskit.training.callbacks import EpochOrder, GoOn, JsonLog, Progress
from compresskit.training.computing import Objective, checkpoint_activations, compute_dtype
from compresskit.training.optimizers import ParameterGroup, make_optimizer
from compresskit.training.penalty import PenaltyMeter
from compresskit.training.reporters import end_reporting, reporters
from compresskit.training.sampler import LengthGroupedSampler
from compresskit.training.selection import Selection
from compresskit.training.so_far import SoFar

LOG_STEPS = 10


class Engine(Trainer):
    """Trains `model` on `features` to lower `objective`.

    `rows` counts the rows of choices of a batch: the loss of a step is the mean over all of its rows, however they are
    cut into batches and spread over processes. `groups` are the optimizer's parameter groups (`lr` and `weight_decay`
    set in each). `fields` gives further figures for the progress bar and the log, by name; `penalties` has counted what
    the objective adds to the task's loss. States go to `work`, and `saved` hears of each in the first process; `resume`
    takes up the newest one. The last state is the result, or the one that `selection` chooses.
    """

    def __init__(
        self,
        model: nn.Module,
        features: Items,
        lengths: Any,
        collator: Callable[[Any], Batch],
        objective: Objective,
        rows: Callable[[Batch], Tensor],
        groups: Sequence[ParameterGroup],
        options: TrainingOptions,
        work: Path,
        fields: Callable[[], Mapping[str, float]] = dict,
        saved: Callable[[], None] = lambda: None,
        penalties: PenaltyMeter | None = None,
        selection: Selection | None = None,
    ) -> None:
        self._objective = objective
        self._rows = rows
        self._learner = model
        self._groups = list(groups)
        self._options = options
        self._work = work
        self._saved = saved
        self._fields = fields
        self._penalties = penalties or PenaltyMeter()
        self._selection = selection
        self._before = SoFar()
        if options.gradient_checkpointing:
            checkpoint_activations(model)
        arguments = training_arguments(options, work)
        super().__init__(model=model, args=arguments, train_dataset=features, data_collator=collator)
        # The Trainer divides the loss of each batch by their number; `compute_loss` weighs it by its rows before.
        self.model_accepts_loss_kwargs = False
        self._sampler = LengthGroupedSampler(
            lengths, options.batch_size * options.accumulate * arguments.world_size, options.seed
        )
        for shown in (PrinterCallback, ProgressCallback):
            self.remove_callback(shown)
        self.add_callback(EpochOrder(self._sampler))
        self.add_callback(JsonLog(work / "log.jsonl"))
        for reporter in reporters(options.log, options.target):
            self.add_callback(reporter)
        self._progress = Progress(options.batch_size * options.accumulate * arguments.world_size)
        self.add_callback(self._progress)
        self.add_callback(GoOn(self._go_on))

    def fit(self, *, resume: bool) -> dict[str, Any]:
        """Train to the end; figures of the run: mean loss and penalty, steps, windows/s, parameters that learned.

        Also the peak of a GPU's memory that tensors took, in bytes; None on a CPU. A resumed run tells those of all of
        its parts; steps that were lost with an interruption and taken again count once.

        Raises RunFailed where the loss or a parameter is no longer a number, or memory runs out; the last state stays.
        Raises InputError where the state to go on from is not as it was written, or of another model; UsageError where
        it is beyond the end of the run.
        """
        last = state.latest_state(self._work) if resume else None
        if last is not None:
            check_seal(last)
            self._check_length(last)
            self._before = SoFar.read(last)
            self._progress.before = self._before.seconds
        if self._selection is not None:
            self._selection.begin(last, self.is_world_process_zero(), self._planned())
            self.accelerator.wait_for_everyone()
        on_gpu = self.args.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            give_back_freed()
        try:
            self.train(resume_from_checkpoint=str(last) if last else None)
        except torch.OutOfMemoryError as error:
            raise RunFailed(
                "the GPU's memory is full; lower --batch-size (and raise --accumulate), or --max-length"
            ) from error
        finally:
            self._progress.close()
        self._check_parameters()
        self.accelerator.wait_for_everyone()  # the first process may still write the best state
        end_reporting(self._options.log)
        seconds = self._progress.watch.seconds
        steps, penalty = self.state.global_step, self._penalties.logged
        chosen = {} if self._selection is None else {"selection": self._selection.restore(steps)}
        return {
            "train_loss": (self._total_loss_scalar - penalty) / steps,
            **({"train_penalty": penalty / steps} if penalty else {}),
            "steps": steps,
            "peak_memory_bytes": self._peak(),
            "examples_per_s": self._windows() / seconds if seconds > 0 else None,
            "params_trainable": sum(p.numel() for p in self._learner.parameters() if p.requires_grad),
            **chosen,
        }

    def _planned(self) -> int:
        """The steps of the whole run."""
        return self._options.planned_steps(len(self._sampler), self.args.world_size)

    def _check_length(self, last: Path) -> None:
        """UsageError where a run is told to end before a state that it has reached."""
        done, planned = state.step_of(last), self._planned()
        if planned < done:
            raise UsageError(f"{last} is after {done} steps, and the run is to end after {planned}; give it more")

    def _windows(self) -> int:
        """The windows that all steps have seen; the last step of an epoch sees those that are left."""
        count, per_step = len(self._sampler), self._sampler.batch_size
        epochs, steps = divmod(self.state.global_step, math.ceil(count / per_step))
        return epochs * count + min(steps * per_step, count)

    def _peak(self) -> int | None:
        """The most bytes of a GPU's memory that tensors took at once, in any part of the run; None on a CPU."""
        if self.args.device.type != "cuda":
            return None
        return max(torch.cuda.max_memory_allocated(), self._before.peak_memory_bytes or 0)

    def _so_far(self) -> SoFar:
        """The figures up to now; every process of the run has to ask."""
        later = float(self.accelerator.gather(self._tr_loss).mean())
        return SoFar(
            self._progress.watch.seconds,
            self._globalstep_last_logged,
            self._total_loss_scalar,
            later,
            self._peak(),
            self._penalties.logged,
            self._penalties.total,
            self._penalties.steps,
        )

    def _go_on(self) -> None:
        """Count on from the state that is resumed; the Trainer has just set its counts to nothing."""
        self._initial_global_step = 0
        self._globalstep_last_logged = self._before.logged_step
        self._total_loss_scalar = self._before.logged_loss
        self._tr_loss += self._before.later_loss
        known = self._before
        self._penalties.go_on(known.logged_penalty, known.later_penalty, known.later_penalty_steps)

    def _run_epoch(self, *positional: Any, **named: Any) -> None:
        """Take the steps of an epoch; none where the state that is resumed is that of the last step."""
        is_over = self._selection is not None and self._selection.is_over
        if self.state.global_step < self.state.max_steps and not is_over:
            super()._run_epoch(*positional, **named)  # type: ignore[no-untyped-call]
        else:
            self.control.should_training_stop = True

    def _maybe_log_save_evaluate(self, *positional: Any, **named: Any) -> None:
        """After a step, ask the model where that is due; what it answers belongs to the state that is saved then."""
        step, selection = self.state.global_step, self._selection
        if selection is not None and selection.is_due(step, self.state.max_steps):
            self._check_parameters()
            is_logged = self.control.should_log  # which whatever is logged resets
            with self._progress.watch.paused():
                self.log(selection.evaluate(step, self.is_world_process_zero()))
            self.control.should_training_stop |= selection.is_over
            self.control.should_log = is_logged or selection.is_over  # so that the log holds the run's end
        super()._maybe_log_save_evaluate(*positional, **named)

    # What the Trainer asks for: data, optimizer, loss.

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        return self._sampler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer that was asked for, over our parameter groups."""
        if self.optimizer is None:
            self.optimizer = make_optimizer(self._options.optimizer, self._groups, self._learner)
        return self.optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Any]:
        """The batches of a step, and how many rows of choices one of them has on average, over all processes.

        None where the step is one batch alone.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        parts = len(batches) * self.args.world_size
        if parts < 2:
            return batches, None
        rows = torch.stack([self._rows(batch).to(device) for batch in batches]).sum()
        return batches, self.accelerator.gather(rows).sum() / parts

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective at this moment of the run, weighed by the batch's part in the rows of the step.

        The mean of these weights is 1, so that a penalty, which is the same for all batches, counts once in a step.
        Batches of equally many rows have exactly 1.
        """
        loss = self._objective(model, inputs, self.state.global_step / max(self.state.max_steps - 1, 1))
        if num_items_in_batch is None:
            return loss
        return loss * (self._rows(inputs).to(loss.device) / num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand figures to the callbacks, loss and penalty apart; a loss that is not a number ends the run.

        Reading some of the figures makes a GPU wait, so it is done here alone.
        """
        loss = logs.get("loss")
        if loss is not None:
            if not math.isfinite(loss):
                self._fail("the loss")
            if (penalty := self._penalties.take()) is not None:
                logs = {**logs, "loss": loss - penalty, "penalty": penalty}
            logs = {**logs, **self._fields()}
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Batch) -> int:
        """0: nobody asks for their number, and the Trainer would count all parameters anew in every step."""
        return 0

    # States: ours instead of the Trainer's, which are pickled and appear file by file.

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._check_parameters()
        final = state.state_folder(self._work, self.state.global_step)
        main = self.is_world_process_zero()
        staging = self._work / "state.writing"
        so_far = self._so_far()
        if main:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            state.save_parameters(staging, self._learner.named_parameters())
            assert self.optimizer is not None
            assert self.lr_scheduler is not None
            state.save_optimizer(staging, self.optimizer, self.lr_scheduler.state_dict())
            self.state.save_to_json(str(staging / "trainer_state.json"))
            so_far.write(staging)
            if self._selection is not None:
                self._selection.write(staging)
        self.accelerator.wait_for_everyone()
        state.save_generators(staging, self.args.process_index)
        self.accelerator.wait_for_everyone()
        if main:
            state.commit_state(staging, final)
            if self._selection is not None:
                self._selection.saved()
            self._saved()
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state.load_parameters(Path(resume_from_checkpoint), self._learner.named_parameters())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            assert self.optimizer is not None
            assert self.lr_scheduler is not None
            self.lr_scheduler.load_state_dict(state.load_optimizer(Path(checkpoint), self.optimizer))
            # A run that was given another length goes on at the rate that this one has at its step.
            schedule: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)  # accelerate wraps it
            peaks = zip(self.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, peak, part in peaks:
                group["lr"] = peak * part(schedule.last_epoch)
            schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # what the log tells

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            state.load_generators(Path(checkpoint), self.args.process_index)

    def _check_parameters(self) -> None:
        learning = [p.detach() for p in self._learner.parameters() if p.requires_grad]
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(learning)])
        if not bool(torch.isfinite(norms).all()):
            self._fail("a weight")

    def _fail(self, what: str) -> None:
        last = state.latest_state(self._work)
        kept = f"the last good state is {last}" if last else "no state was saved before"
        raise RunFailed(
            f"{what} is no longer a number at step {self.state.global_step} ({kept}); lower --lr or --score-lr"
        )


def training_arguments(options: TrainingOptions, work: Path) -> TrainingArguments:
    """The Trainer's arguments for our options."""
    device = resolve_device(options.device)
    on_gpu = device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(work),
        use_cpu=not on_gpu,
        bf16=compute_dtype(options) == "bfloat16",
        seed=options.seed,
        num_train_epochs=options.epochs or 1.0,
        max_steps=options.max_steps or -1,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.peak_lr,
        lr_scheduler_type="linear",
        warmup_steps=options.lr_warmup,
        max_grad_norm=options.max_grad_norm,
        save_strategy="steps",
        save_steps=options.save_steps,
        logging_steps=LOG_STEPS,
        # A check of every step's loss would make the GPU wait; `log` checks the mean of the last steps.
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        run_name=options.target.name,
        eval_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        # A copy that blocks waits for the step before, so that the CPU could not launch the next one meanwhile.
        accelerator_config={"non_blocking": on_gpu},
        dataloader_num_workers=2 if on_gpu else 0,
        dataloader_persistent_workers=on_gpu,
        ddp_find_unused_parameters=False,
    )
    # One process is one device. On a machine of several GPUs the Trainer would spread the batch by DataParallel, whose
    # copies of the model know nothing of masks that were computed for all matrices at once.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
