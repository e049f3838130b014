"""The memory that a training will need on its device, by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compresskit.models.device import resolve_device
from compresskit.models.loaded import TrainableModel
from compresskit.models.task import Batch, Features
from compresskit.training.arguments import OptimizerName, TrainingOptions
from compresskit.training.engine import Objective, checkpoint_activations, compute_dtype
from compresskit.training.optimizers import ParameterGroup, embedding_ids

# Bytes of a gradient and of a moment in fp32, and of a moment in 8 bits with its scale for each block of 256; fewer
# numbers than SMALLEST keep moments in fp32 (bitsandbytes).
GRADIENT, MOMENT, SHORT_MOMENT, SMALLEST = 4, 4, 1 + 4 / 256, 4096


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak of a training, by part.

    `weights`, `optimizer` and `method` (what the method keeps beside them) stay; the rest comes and goes in each step.
    `logits` are those of the choices, such as a vocabulary's, with their gradients.
    """

    weights: int
    optimizer: int
    method: int
    gradients: int
    activations: int
    logits: int
    accumulates: bool

    @property
    def peak(self) -> int:
        """What stays, and the larger of what the forward pass leaves and the gradients that take its place.

        Where gradients are accumulated, they are there in the forward pass too.
        """
        passing = self.activations + self.logits
        most = passing + self.gradients if self.accumulates else max(passing, self.gradients)
        return self.weights + self.optimizer + self.method + most


def expected_memory(
    loaded: TrainableModel,
    features: Features,
    groups: Sequence[ParameterGroup],
    objective: Objective,
    options: TrainingOptions,
    method: int,
) -> Memory:
    """The memory of a run in which the parameters of `groups` learn by `objective`; `method` as in `Memory`.

    The model is moved to the run's device. There, forward passes of one window and of two, as long as the longest,
    tell what a batch will leave.
    """
    model: nn.Module = loaded.model
    device = resolve_device(options.device)
    model.to(device).train()
    if options.gradient_checkpointing:
        checkpoint_activations(model)
    weights = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    learning = [parameter for group in groups for parameter in group["params"]]
    embeddings = embedding_ids(model)
    left, logits = _left_by_a_batch(loaded, features, objective, options, device)
    return Memory(
        weights=sum(weights.values()),
        optimizer=sum(moment_bytes(options.optimizer, p, whole=id(p) in embeddings) for p in learning),
        method=method,
        gradients=GRADIENT * sum(p.numel() for p in learning),
        activations=max(left - logits, 0),
        logits=2 * logits,
        accumulates=options.accumulate > 1,
    )


def moment_bytes(name: OptimizerName, parameter: Tensor, *, whole: bool) -> int:
    """Bytes that an optimizer keeps for a parameter; `whole` ones have no moments of 8 bits."""
    if name == "adafactor":
        rows = parameter.shape[:-1].numel() + parameter.shape[:-2].numel() * parameter.shape[-1]
        return MOMENT * (rows if parameter.ndim > 1 else parameter.numel())
    short = name != "adamw" and not whole and parameter.numel() >= SMALLEST
    return int(2 * (SHORT_MOMENT if short else MOMENT) * parameter.numel())


def _left_by_a_batch(
    loaded: TrainableModel, features: Features, objective: Objective, options: TrainingOptions, device: torch.device
) -> tuple[int, int]:
    """Bytes that the forward pass of a full batch leaves for the backward pass; those of its choices' logits alone."""
    longest = features[int(np.argmax(features.lengths))]
    collate = loaded.task.collator(loaded.tokenizer)
    found = []
    for size in (1, 2):
        batch = {name: tensor.to(device) for name, tensor in collate([longest] * size).items()}
        found.append(_left(loaded.model, objective, batch, options, device))
    per_window = found[1] - found[0]
    with torch.no_grad():
        logits = loaded.task.choices(loaded.model, batch).logits
    return found[0] + (options.batch_size - 1) * per_window, logits.nbytes // 2 * options.batch_size


def _left(model: nn.Module, objective: Objective, batch: Batch, options: TrainingOptions, device: torch.device) -> int:
    """Bytes of all tensors, but the model's own, that a forward pass keeps for its backward pass."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    dtype = compute_dtype(options)
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32"),
    ):
        loss = objective(model, batch, 0.0)
    if device.type == "cuda":
        kept[loss.data_ptr()] = loss  # its graph holds what no hook is told of
        return torch.cuda.memory_allocated() - before
    return sum(storage.nbytes() for storage in kept.values())
