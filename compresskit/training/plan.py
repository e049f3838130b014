"""What a run would do, told before it does it: parameters, bytes, memory and steps."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compresskit.models.device import resolve_device
from compresskit.models.family import LoadedModel
from compresskit.training.engine import compute_dtype
from compresskit.training.options import TrainingOptions
from compresskit.training.session import check_length, training_examples

# Questions whose windows are counted to estimate those of all.
PROBE = 2000
# Bytes of AdamW's two moments in fp32, of a gradient and of a weight.
MOMENTS, GRADIENT, WEIGHT = 8, 4, 4
# Activations kept for the backward pass of one transformer block: 34 bytes a token and hidden unit in 16-bit numbers
# (Korthikanti et al. 2022, arXiv 2205.05198, without the attention matrix, which fused attention does not keep).
ACTIVATION = 34


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
    masked: int = 0,
    checkpoint_bytes: int,
    notes: Sequence[str] = (),
) -> Plan:
    """The plan of a run of `loaded` in which `trainable` parameters learn and `masked` weights are under a mask.

    Reads the data and tokenizes up to PROBE questions in a temporary folder; writes nothing else.
    """
    check_length(options, loaded)
    examples = training_examples(options)
    probe = examples.sample(min(PROBE, len(examples)), options.seed)
    with tempfile.TemporaryDirectory() as folder:
        features = loaded.family.features(loaded.tokenizer, probe, options.windows, Path(folder))
        windows = round(len(features) / len(probe) * len(examples))
        longest = int(features.lengths.max())
    per_step = options.batch_size * options.accumulate
    steps = options.max_steps or math.ceil(options.epochs * math.ceil(windows / per_step))
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    device, dtype = resolve_device(options.device).type, compute_dtype(options)
    number = 2 if dtype == "bfloat16" else 4
    config = loaded.model.config
    blocks, hidden = getattr(config, "num_hidden_layers", 0), getattr(config, "hidden_size", 0)
    activations = ACTIVATION * number // 2 * options.batch_size * longest * hidden * blocks
    # Scores of masks are parameters too. Under a mask a weight stands there as it is, in the dtype of computation, as
    # the masked copy that the layer multiplies with, and as that copy's gradient; the scores' sigmoids stay as well.
    memory = parameters * WEIGHT + trainable * (GRADIENT + MOMENTS) + masked * (3 * number + WEIGHT) + activations
    return Plan(
        parameters, trainable, checkpoint_bytes, len(examples), windows, steps, memory, device, dtype, tuple(notes)
    )
