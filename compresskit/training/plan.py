"""What a run would do, told before it does it: parameters, bytes, memory and steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from compresskit.checkpoint.temporary import temporary_folder
from compresskit.models.counting import count
from compresskit.models.device import resolve_device
from compresskit.models.loaded import TrainableModel
from compresskit.training.arguments import TrainingOptions
from compresskit.training.computing import Objective, compute_dtype
from compresskit.training.memory import Memory, expected_memory
from compresskit.training.optimizers import ParameterGroup
from compresskit.training.selection import told
from compresskit.training.session import check_options, opened_features, training_examples

# Questions whose windows are counted to estimate those of all.
PROBE = 2000
# Bytes of a weight as it learns, and of a number of the computation.
WEIGHT = 4
NUMBER_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """Figures of a planned run; `windows` and `memory` are estimates."""

    parameters: int
    trainable: int
    checkpoint_bytes: int
    questions: int
    windows: int
    steps: int
    memory: Memory
    device: str
    dtype: str
    notes: Sequence[str] = ()


def make_plan(
    options: TrainingOptions,
    loaded: TrainableModel,
    objective: Objective,
    *,
    groups: Sequence[ParameterGroup],
    copies: int,
    checkpoint_bytes: int,
    notes: Sequence[str] = (),
) -> Plan:
    """The plan of a run of `loaded` in which the parameters of `groups` learn by `objective` (scores included).

    `copies` is the bytes that the method keeps from step to step beside parameters and moments.
    Reads the data and tokenizes up to PROBE questions in a temporary folder; writes nothing else. The model ends on the
    run's device.
    """
    check_options(options, loaded)
    examples, selecting = training_examples(options)
    if selecting is not None:
        notes = [*notes, told(options, selecting)]
    probe = examples.sample(min(PROBE, len(examples)), options.seed)
    parameters = count(loaded.model).total or 0
    with temporary_folder() as folder:
        loaded.task.write(loaded.tokenizer, probe, options.windows, folder)
        features = opened_features(loaded, folder, options)
        windows = round(len(features) / len(probe) * len(examples))
        memory = expected_memory(loaded, features, groups, objective, options, copies)
    steps = options.planned_steps(windows, int(os.environ.get("WORLD_SIZE", "1")))
    trainable = sum(parameter.numel() for group in groups for parameter in group["params"])
    device, dtype = resolve_device(options.device).type, compute_dtype(options)
    return Plan(
        parameters, trainable, checkpoint_bytes, len(examples), windows, steps, memory, device, dtype, tuple(notes)
    )
