"""What a run would do, told before it does it: parameters, bytes, memory and steps."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compresskit.models.device import resolve_device
from compresskit.models.loaded import LoadedModel
from compresskit.training.arguments import TrainingOptions
from compresskit.training.engine import compute_dtype
from compresskit.training.session import check_windows, training_examples

# Questions whose windows are counted to estimate those of all.
PROBE = 2000
# Bytes of AdamW's two moments in fp32, of a gradient and of a weight.
MOMENTS, GRADIENT, WEIGHT = 8, 4, 4
NUMBER_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """Figures of a planned run; `windows` and `memory_bytes` are estimates."""

    parameters: int
    trainable: int
    checkpoint_bytes: int
    questions: int
    windows: int
    steps: int
    memory_bytes: int
    device: str
    dtype: str
    notes: Sequence[str] = ()


def make_plan(
    options: TrainingOptions,
    loaded: LoadedModel,
    *,
    trainable: int,
    copies: int = 0,
    checkpoint_bytes: int,
    notes: Sequence[str] = (),
) -> Plan:
    """The plan of a run of `loaded` in which `trainable` parameters learn (scores included).

    `copies` is the bytes that the method keeps beside parameters, gradients, moments and activations.
    Reads the data and tokenizes up to PROBE questions in a temporary folder; writes nothing else.
    """
    check_windows(options, loaded)
    examples = training_examples(options)
    probe = examples.sample(min(PROBE, len(examples)), options.seed)
    with tempfile.TemporaryDirectory() as folder:
        loaded.task.write(loaded.tokenizer, probe, options.windows, Path(folder))
        features = loaded.task.open(Path(folder))
        windows = round(len(features) / len(probe) * len(examples))
        longest = int(features.lengths.max())
    per_step = options.batch_size * options.accumulate * int(os.environ.get("WORLD_SIZE", "1"))
    steps = options.max_steps or math.ceil((options.epochs or 0) * math.ceil(windows / per_step))
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    device, dtype = resolve_device(options.device).type, compute_dtype(options)
    number = NUMBER_BYTES[dtype]
    activations = loaded.family.activation_bytes(loaded.model.config, options.batch_size, longest, number)
    memory = parameters * WEIGHT + trainable * (GRADIENT + MOMENTS) + copies + activations
    return Plan(
        parameters, trainable, checkpoint_bytes, len(examples), windows, steps, memory, device, dtype, tuple(notes)
    )
