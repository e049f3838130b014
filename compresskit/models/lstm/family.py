"""The BiLSTM readers as a family: how they are recognized, loaded and masked; asked as all extractive readers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from compresskit.models.defaults import BY_FAMILY, TrainingDefaults
from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.model import LstmReader
from compresskit.models.pretrained import from_folder
from compresskit.models.task import Task
from compresskit.models.tasks.spans import SPANS

EMBEDDINGS, HEAD = "embeddings.words.", "head."


class LstmFamily:
    """BiLSTM readers, built by `compresskit train lstm`."""

    name = "lstm"
    task: Task = SPANS
    defaults: TrainingDefaults = BY_FAMILY["lstm"]

    def owns(self, config: PretrainedConfig) -> bool:
        """Whether this is a configuration of ours."""
        return isinstance(config, LstmReaderConfig)

    def load(self, folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        """Open a folder; also the names of parameters that it lacks."""
        model, missing = from_folder(LstmReader, folder, config, dtype, self.head)
        # Loading puts new parameters in the place of those that were frozen.
        if config.freeze_embeddings:
            model.get_input_embeddings().requires_grad_(False)
        return model, missing

    def build(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model of this configuration with random weights."""
        assert isinstance(config, LstmReaderConfig)
        return LstmReader(config)

    def head(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters that turn features into logits."""
        return {name for name, _ in model.named_parameters() if name.startswith(HEAD)}

    def weights(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """Input and recurrent matrices of every LSTM, both directions."""
        return {
            f"{name}.{parameter}": module
            for name, module in model.named_modules()
            if isinstance(module, nn.LSTM)
            for parameter, _ in module.named_parameters(recurse=False)
            if parameter.startswith("weight")
        }

    def alongside(self, model: PreTrainedModel) -> set[str]:
        """Everything that no mask covers but the words' vectors."""
        masked = set(self.weights(model))
        return {name for name, _ in model.named_parameters() if name not in masked and not name.startswith(EMBEDDINGS)}

    def max_positions(self, config: PretrainedConfig) -> int | None:
        """An LSTM reads any length."""
        return None

    def penalty(self, config: PretrainedConfig, learning: Sequence[tuple[str, nn.Parameter]]) -> Tensor | None:
        """`l2 · Σ w²` over the matrices that learn, but the words' vectors (Keras's kernel regularizers)."""
        weights: list[Tensor] = [
            weight for name, weight in learning if weight.ndim > 1 and not name.startswith(EMBEDDINGS)
        ]
        if not config.l2 or not weights:
            return None
        squares: Tensor = torch.stack(torch._foreach_norm(weights)).square().sum()
        return float(config.l2) * squares
