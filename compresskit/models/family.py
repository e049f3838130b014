"""What a family of models is: which models are its own, and what their weights are.

The rest of the program knows a model through this protocol and its task's (`task.py`) alone. A new family is a new file
beside `encoder.py`, and one line in `families.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from compresskit.models.defaults import TrainingDefaults
from compresskit.models.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel


class Family(Protocol):
    """What the program asks of a family of models. `defaults` are those of its training."""

    name: str
    task: Task
    defaults: TrainingDefaults

    def owns(self, config: PretrainedConfig) -> bool:
        """Whether models of this configuration belong to the family."""

    def load(self, folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        """The model in a folder of the ecosystem, and the names of parameters that the folder lacks."""

    def build(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model of this configuration with random weights."""

    def weights(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """What a method may change: by the qualified name of each weight, the module that holds it."""

    def alongside(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters that learn beside `weights`, with a method that learns weights."""

    def head(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters of the question-answering head."""

    def max_positions(self, config: PretrainedConfig) -> int | None:
        """Longest input in tokens, None for no limit."""


@runtime_checkable
class Regularized(Protocol):
    """A family whose models ask for a penalty of their own in the loss."""

    def penalty(self, config: PretrainedConfig, learning: Sequence[tuple[str, nn.Parameter]]) -> Tensor | None:
        """What the configuration adds to the loss, by the names and weights that learn; None for nothing."""
