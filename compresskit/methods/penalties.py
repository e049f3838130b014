"""What is added to the loss of a task: the penalty of a method, and that of a model's configuration."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compresskit.methods.method import Attached
from compresskit.models.family import Regularized
from compresskit.models.loaded import TrainableModel
from compresskit.models.task import Batch
from compresskit.training.computing import Objective
from compresskit.training.penalty import PenaltyMeter


def with_penalties(
    objective: Objective, loaded: TrainableModel, attached: Attached, meter: PenaltyMeter | None = None
) -> Objective:
    """An objective with the attached method's penalty, and with the one that the model's configuration asks for.

    The latter is on the weights that learn by now, but not on those that are the method's own. `meter` counts both.
    """
    own = {id(parameter) for parameter in attached.added()}
    named = loaded.model.named_parameters()
    learning = [(name, p) for name, p in named if p.requires_grad and id(p) not in own]
    family = loaded.family

    def penalized(model: nn.Module, batch: Batch, done: float) -> Tensor:
        added = [attached.step(done)] if model.training else []
        loss = objective(model, batch, done)
        if model.training and isinstance(family, Regularized):
            added.insert(0, family.penalty(loaded.model.config, learning))
        penalties = [penalty for penalty in added if penalty is not None]
        for penalty in penalties:
            loss = loss + penalty
        if meter is not None and penalties:
            meter.add(done, torch.stack([penalty.detach() for penalty in penalties]).sum())
        return loss

    return penalized
