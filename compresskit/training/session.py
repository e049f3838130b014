"""One training run from a checkpoint to a checkpoint: claim the output, prepare, fit, save, publish."""

from __future__ import annotations

import contextlib
import functools
import gc
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import distributed, nn

from compresskit import console
from compresskit.checkpoint.jobs import check_same_job, differences, without_length
from compresskit.checkpoint.manifest import Base, Data, KindName, Manifest, Step, read_manifest
from compresskit.checkpoint.seal import check_seal, sealed_folder
from compresskit.checkpoint.store import Workspace, staging_beside, write_text
from compresskit.checkpoint.temporary import new_folder
from compresskit.data.examples import ExampleSet
from compresskit.data.held_out import hold_out
from compresskit.data.load import load as load_data
from compresskit.data.mending import BadData
from compresskit.data.negatives import with_negatives
from compresskit.errors import CompresskitError, UsageError
from compresskit.models.architecture import Architecture
from compresskit.models.builtin import scratch
from compresskit.models.device import resolve_device
from compresskit.models.kinds import kind_of
from compresskit.models.kinds.quantized import QuantizedKind
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.loading import attention_dropout_of
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source
from compresskit.models.task import Bounded, Features
from compresskit.models.tasks.lengths import told_too_long, too_long
from compresskit.text import counted
from compresskit.training.arguments import Evaluator, TrainingOptions
from compresskit.training.choices import Choices, leaves_out_attention_dropout
from compresskit.training.clock import RunClock
from compresskit.training.selection import Selection, told

LONGEST_WAIT = timedelta(days=1)


@dataclass(slots=True)
class Session:
    """A prepared run: what the engine needs, and what the manifest will say.

    `features` are those of `examples`. `work` is the claimed workspace; `clock` counts
    the wall time. `selecting` are the questions that choose the state, None where the last one is kept.
    """

    options: TrainingOptions
    work: Path
    workspace: Workspace | None
    source: Source
    loaded: TrainableModel
    examples: ExampleSet
    features: Features
    data: Data
    clock: RunClock
    selecting: ExampleSet | None = None

    def keep_time(self) -> None:
        """Write down the wall time, in the first process: something is finished that a resumed run finds done."""
        if self.is_main:
            self.clock.keep()

    def selection(
        self, comparable: Callable[[float], bool], as_finished: Callable[[], AbstractContextManager[None]]
    ) -> Selection | None:
        """What chooses the state (see `Selection`); None where the last one is kept."""
        if self.selecting is None:
            return None
        return Selection(self.options, self.loaded, self.selecting, self.work, comparable, as_finished)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files: the first of a distributed run."""
        return self.workspace is not None


def processes_of(options: TrainingOptions) -> PartialState:
    """The processes of a run, this one among them."""
    # The first process tokenizes, asks the teacher and scores while the others wait for it.
    return PartialState(cpu=resolve_device(options.device).type == "cpu", timeout=LONGEST_WAIT)


def end_processes() -> None:
    """Leave the group of a run's processes, once all of them are at their end; nothing where one runs alone.

    NCCL warns of a program that ends without.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)


@contextlib.contextmanager
def claimed(options: TrainingOptions, job: Mapping[str, Any]) -> Iterator[tuple[Workspace | None, Path]]:
    """The workspace of a run, claimed by the first process of it; the others get its path alone.

    Raises UsageError where the output is taken (see `Workspace.claim`).
    """
    processes = processes_of(options)
    workspace = Workspace(options.target)
    if processes.is_main_process:
        with workspace.claim(job, resume=options.resume, overwrite=options.overwrite) as work:
            processes.wait_for_everyone()
            yield workspace, work
    else:
        processes.wait_for_everyone()
        yield None, workspace.path


def starting_point(options: TrainingOptions) -> Source:
    """The checkpoint that a run starts from: `options.model`, or one that is built from the training data now.

    Raises the errors of `resolve`, and of building: those of the data, of a vector file, of the settings.
    """
    if options.architecture is None:
        return options.source
    folder = _built(
        options.architecture,
        options.data,
        options.max_train_samples,
        options.seed,
        options.bad_data,
        options.share_held_out,
    )
    return Source(options.model, folder, untrained=True)


@functools.cache
def _built(
    architecture: Architecture, data: str, count: int | None, seed: int, bad_data: BadData, held_out: float | None
) -> Path:
    """The folder of a built model, until this process ends; every process of a run builds the same."""
    folder = new_folder(scratch(), "built-")
    architecture.build(_divided(data, count, seed, bad_data, held_out)[0], seed, folder)
    return folder


def prepare(
    options: TrainingOptions,
    source: Source,
    workspace: Workspace | None,
    work: Path,
    examine: Callable[[TrainableModel], None],
) -> Session:
    """Load the model and the data, and build the features (once, by the first process).

    `examine` raises what a method has against the model, before the data are read. Raises the errors of loading a
    checkpoint and of reading data, each with its own exit code.
    """
    clock = RunClock(work)
    set_seed(options.seed)
    loaded = load_for_training(source, options)
    check_options(options, loaded)
    examine(loaded)
    examples, selecting = training_examples(options)
    number, unanswerable = counted(len(examples), "question"), examples.info.unanswerable
    console.info(f"{number} from {options.data}, {unanswerable:,} of them unanswerable")
    if selecting is not None:
        console.info(told(options, selecting))
    folder = work / "features"
    if workspace is not None and folder.is_dir():
        check_seal(folder)
    elif workspace is not None:
        with sealed_folder(folder) as staging:
            loaded.task.write(loaded.tokenizer, examples, options.windows, staging)
    PartialState().wait_for_everyone()
    features = opened_features(loaded, folder, options)
    if count := too_long(loaded.tokenizer, examples, options.max_answer_length):
        console.warn(told_too_long(count, options.max_answer_length, options.data))
    info = examples.info
    data = Data(options.data, info.sha256, info.questions, info.unanswerable, info.counts)
    session = Session(options, work, workspace, source, loaded, examples, features, data, clock, selecting)
    session.keep_time()
    return session


def opened_features(loaded: TrainableModel, folder: Path, options: TrainingOptions) -> Features:
    """The features in a folder. Raises UsageError where one has more tokens than the model has room for."""
    features = loaded.task.open(folder)
    if isinstance(loaded.task, Bounded):
        loaded.task.check_lengths(features, loaded.model.config, options.windows)
    return features


def load_for_training(source: Source, options: TrainingOptions) -> TrainableModel:
    """Open a checkpoint in fp32, in training mode: packed weights where they are computed with, others on the CPU.

    Where dropout of attention weights is left out, the configuration that is saved keeps the model's own value.
    """
    # Transformers does not move packed weights; all others wait on the CPU for the teacher to leave the device.
    place = resolve_device(options.device).type if isinstance(kind_of(source), QuantizedKind) else "cpu"
    without = 0.0 if leaves_out_attention_dropout(options) else None
    loaded = load_trainable(source, attention_dropout=without, device=place)
    loaded.model.train()
    return loaded


def training_examples(options: TrainingOptions) -> tuple[ExampleSet, ExampleSet | None]:
    """The training questions, and those that choose the state where one is chosen.

    They are sampled whole, less those that are held out; then constructed unanswerable ones join where asked for.
    """
    examples, selecting = _divided(
        options.data, options.max_train_samples, options.seed, options.bad_data, options.share_held_out
    )
    if options.negatives > 0:
        examples = with_negatives(examples, options.negatives, options.seed)
    if options.select_data is not None:
        selecting = load_data(options.select_data, "eval")
    return examples, selecting


def _divided(
    data: str, count: int | None, seed: int, bad_data: BadData, share: float | None
) -> tuple[ExampleSet, ExampleSet | None]:
    """What is learned from, and the `share` that is held out of it."""
    examples = load_data(data, "train", bad_data)
    if count is not None and count < len(examples):
        examples = examples.sample(count, seed)
    return (examples, None) if share is None else hold_out(examples, share, seed)


def check_options(options: TrainingOptions, loaded: LoadedModel) -> None:
    """UsageError for an option of the training that this model cannot have."""
    if options.prompt_template is not None and loaded.task.prompt is None:
        raise UsageError(
            f"--prompt-template has no effect with {loaded.ref}, which does not write its answers; leave it out"
        )
    if options.gradient_checkpointing and not loaded.model.supports_gradient_checkpointing:
        raise UsageError(f"--gradient-checkpointing has no effect with {loaded.ref}, which has no blocks; leave it out")
    if options.attention_dropout != "auto" and attention_dropout_of(loaded.model.config) is None:
        raise UsageError(
            f"--attention-dropout has no effect with {loaded.ref}, whose configuration names none; leave it out"
        )
    positions = loaded.family.max_positions(loaded.model.config)
    if positions is not None and options.max_length > positions:
        raise UsageError(
            f"--max-length {options.max_length} is more than the {positions} tokens that {loaded.ref} reads; lower it"
        )


def finish(
    session: Session,
    *,
    method: str,
    config: Mapping[str, Any],
    kind: KindName,
    base: Base | None,
    metrics: Mapping[str, Any],
    choices: Choices,
    save: Callable[[Path], None],
    evaluator: Evaluator | None,
) -> None:
    """Write the finished checkpoint with tokenizer, configuration, log and manifest, score it, and publish it whole.

    `save` writes the weights into the folder that it is given. Only the first process of a run writes. Where scoring
    fails, its error is raised once the checkpoint, without figures, is in its place.
    """
    options, loaded = session.options, session.loaded
    failure: CompresskitError | None = None
    if session.workspace is not None:
        staging = staging_beside(options.target)
        try:
            save(staging)
            # The windows' truncation is a state of the tokenizer; whoever opens its file did not ask for it.
            loaded.tokenizer.backend_tokenizer.no_truncation()
            loaded.tokenizer.save_pretrained(staging)
            write_text(staging / "log.jsonl", (session.work / "log.jsonl").read_text())
            known = loaded.manifest or Manifest(loaded.family.name, "full", None, [])
            # The training ends here: scoring a checkpoint is not a part of making it.
            seconds = session.clock.seconds
            step = Step(method, config, options.seed, session.data, seconds, metrics, choices=choices)
            known.add(step, kind=kind, base=base).write(staging)
            if evaluator is not None:
                _free_device(loaded)
                try:
                    step = replace(step, metrics={**metrics, **evaluator(staging)})
                except CompresskitError as error:
                    failure = error
                known.add(step, kind=kind, base=base).write(staging)
            session.workspace.finish(staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    PartialState().wait_for_everyone()
    if failure is not None:
        raise type(failure)(f"{options.target} is ready, but could not be scored: {failure}") from failure


def _free_device(loaded: LoadedModel) -> None:
    """Give back the GPU's memory: the checkpoint is scored in another process."""
    module: nn.Module = loaded.model
    module.to("cpu")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_complete(options: TrainingOptions, config: Mapping[str, Any]) -> bool:
    """Whether `--resume` finds the run finished: its checkpoint is there.

    Raises UsageError where what is there was made with another configuration than `config` (unless it is to be
    overwritten), or is to be trained on: a finished run leaves no state.
    """
    manifest = read_manifest(options.target) if options.resume else None
    if manifest is None or not manifest.steps:
        return False
    known = manifest.steps[-1].config
    other = differences(known, config)
    if options.overwrite and other:
        return False
    if other and not differences(without_length(known), without_length(config)):
        start = f"to train on from its weights give {options.target} as MODEL and another -o, or "
        raise UsageError(
            f"{options.target} is finished ({other}), and keeps no state to go on from; "
            f"{start if manifest.kind == 'full' else ''}--overwrite trains anew"
        )
    check_same_job(known, config, options.target)
    return True
