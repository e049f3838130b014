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
from compresskit.training.allocator import resident_bytes
from compresskit.training.arguments import OptimizerName, TrainingOptions
from compresskit.training.computing import Objective, checkpoint_activations, compute_dtype, computing_in
from compresskit.training.optimizers import ParameterGroup, embedding_ids

# Bytes of a gradient and of a moment in fp32, and of a moment in 8 bits with its scale for each block of 256; fewer
# numbers than SMALLEST keep moments in fp32 (bitsandbytes).
GRADIENT, MOMENT, SHORT_MOMENT, SMALLEST = 4, 4, 1 + 4 / 256, 4096
# Bytes that transformers' Trainer takes beside what a plan has imported.
TRAINER = 75 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak of a training, by part.

    `libraries` are those of the process, with the data that it holds; nothing on a GPU, whose figures are of tensors.
    They, `weights`, `optimizer` and `method` (what the method keeps beside them) stay; the rest comes and goes in each
    step.
    `logits` are those of the choices, such as a vocabulary's, with their gradients. `passing` is the most that a step
    takes at once beside what stays. Gradients take the place of activations, unless they are accumulated.
    """

    libraries: int
    weights: int
    optimizer: int
    method: int
    gradients: int
    activations: int
    logits: int
    passing: int

    @property
    def peak(self) -> int:
        """What stays, and the most that comes and goes."""
        return self.libraries + self.weights + self.optimizer + self.method + self.passing


def expected_memory(
    loaded: TrainableModel,
    features: Features,
    groups: Sequence[ParameterGroup],
    objective: Objective,
    options: TrainingOptions,
    method: int,
) -> Memory:
    """The memory of a run in which the parameters of `groups` learn by `objective`; `method` as in `Memory`.

    The model is moved to the run's device. There, forward passes of one window and of two, as long as the longest, tell
    what a batch will leave. On a GPU, the passes of a whole step are taken too, and their peak measured; where that is
    too much for it, and on a CPU, the peak is reckoned from the parts.
    """
    model: nn.Module = loaded.model
    device = resolve_device(options.device)
    model.to(device).train()
    if options.gradient_checkpointing:
        checkpoint_activations(model)
    weights = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    libraries = _libraries(sum(weights.values())) if device.type == "cpu" else 0
    learning = [parameter for group in groups for parameter in group["params"]]
    embeddings = embedding_ids(model)
    pass_ = _Pass(loaded, features, objective, options, device)
    activations, logits = pass_.left()
    gradients = GRADIENT * sum(p.numel() for p in learning)
    at_once = pass_.peak() if device.type == "cuda" else None
    if at_once is None:
        together = activations + logits + gradients
        at_once = together if options.accumulate > 1 else max(activations + logits, gradients)
    return Memory(
        libraries=libraries,
        weights=sum(weights.values()),
        optimizer=sum(moment_bytes(options.optimizer, p, whole=id(p) in embeddings) for p in learning),
        method=method,
        gradients=gradients,
        activations=activations,
        logits=logits,
        passing=max(at_once, gradients + _update_bytes(options.optimizer, learning)),
    )


def _libraries(weights: int) -> int:
    """What the process holds beside a model's weights, and its Trainer will; 0 where the system does not tell."""
    held = resident_bytes()
    return 0 if held is None else max(held - weights, 0) + TRAINER


def moment_bytes(name: OptimizerName, parameter: Tensor, *, whole: bool) -> int:
    """Bytes that an optimizer keeps for a parameter; `whole` ones have no moments of 8 bits."""
    if name == "adafactor":
        rows = parameter.shape[:-1].numel() + parameter.shape[:-2].numel() * parameter.shape[-1]
        return MOMENT * (rows if parameter.ndim > 1 else parameter.numel())
    short = name != "adamw" and not whole and parameter.numel() >= SMALLEST
    return int(2 * (SHORT_MOMENT if short else MOMENT) * parameter.numel())


def _update_bytes(name: OptimizerName, learning: Sequence[Tensor]) -> int:
    """Bytes that an optimizer takes while it updates a parameter: Adafactor, which is not fused, three of its size."""
    return 3 * GRADIENT * max(parameter.numel() for parameter in learning) if name == "adafactor" else 0


@dataclass(frozen=True, slots=True)
class _Pass:
    """The passes of a training step, on windows that are all as long as the longest."""

    loaded: TrainableModel
    features: Features
    objective: Objective
    options: TrainingOptions
    device: torch.device

    def batch(self, size: int) -> Batch:
        longest = self.features[int(np.argmax(self.features.lengths))]
        batch = self.loaded.task.collator(self.loaded.tokenizer)([longest] * size)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def computing(self) -> torch.autocast:
        return computing_in(compute_dtype(self.options), self.device)

    def left(self) -> tuple[int, int]:
        """Bytes that the forward pass of a full batch leaves for the backward pass, but for its choices' logits.

        And those of the logits, with their gradients.
        """
        self._left(self.batch(1))  # what the first pass makes once and for all is not its batch's
        one, two = (self._left(self.batch(size)) for size in (1, 2))
        with torch.no_grad(), self.computing():
            logits = self.loaded.task.choices(self.loaded.model, self.batch(2)).logits.nbytes // 2
        size = self.options.batch_size
        return max(one + (size - 1) * (two - one) - size * logits, 0), 2 * size * logits

    def _left(self, batch: Batch) -> int:
        model: nn.Module = self.loaded.model
        known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
        kept: dict[int, Any] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                kept[storage.data_ptr()] = storage
            return tensor

        before = torch.cuda.memory_allocated() if self.device.type == "cuda" else 0
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), self.computing():
            loss = self.objective(model, batch, 0.0)
        if self.device.type == "cuda":
            kept[loss.data_ptr()] = loss  # its graph holds what no hook is told of
            return torch.cuda.memory_allocated() - before
        for stays in (value for module in model.modules() for value in vars(module).values()):
            if isinstance(stays, Tensor):  # a masked weight of this step, which is the method's
                kept.pop(stays.untyped_storage().data_ptr(), None)
        return sum(storage.nbytes() for storage in kept.values())

    def peak(self) -> int | None:
        """Bytes at the peak of a GPU's memory in a step, beside what was there; None where they are more than it has.

        Where gradients are accumulated, they are there in the second forward pass already.
        """
        model: nn.Module = self.loaded.model
        batch = self.batch(self.options.batch_size)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        try:
            for _ in range(min(self.options.accumulate, 2)):
                with self.computing():
                    loss = self.objective(model, batch, 0.0)
                loss.backward()  # type: ignore[no-untyped-call]
            return torch.cuda.max_memory_allocated() - before
        except torch.OutOfMemoryError:
            return None
        finally:
            model.zero_grad()
