"""The causal family: Mamba, Pythia, Qwen, SmolLM, … : a model that goes on with a text writes the answer after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from compresskit.models.blocks import linear_weights, other_parameters
from compresskit.models.defaults import BY_FAMILY, TrainingDefaults
from compresskit.models.mamba import is_mamba
from compresskit.models.pretrained import from_folder
from compresskit.models.task import Task
from compresskit.models.tasks.askable import check_askable
from compresskit.models.tasks.causal import CAUSAL, ROOM, positions_of
from compresskit.models.tasks.causal_memory import remembered


class CausalFamily:
    """Language models, of attention or of states."""

    name = "causal"
    task: Task = CAUSAL
    defaults: TrainingDefaults = BY_FAMILY["causal"]

    def owns(self, config: PretrainedConfig) -> bool:
        """Whether transformers knows a model for this configuration that goes on with a text.

        It is asked last: many that fill in masks are known so, too.
        """
        return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING

    def load(self, folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        """Open a folder with AutoModelForCausalLM; also the names of parameters that it lacks.

        A Mamba computes with our own scan, on whatever device. Raises InputError for a model that cannot be asked.
        """
        check_askable(config)
        model, missing = from_folder(AutoModelForCausalLM, folder, config, dtype, self.head)
        remembered(model, [[0]])  # refuses what mixes layers; nothing is computed
        if is_mamba(model):
            from compresskit.models.mamba.mixer import use_own_mixers  # with it come transformers' Mambas

            use_own_mixers(model)
        return model, missing

    def build(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model of this configuration with random weights. Raises InputError for one that cannot be asked."""
        check_askable(config)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return model

    def head(self, model: PreTrainedModel) -> set[str]:
        """None: what writes the answers was pretrained, and is a part of the model."""
        return set()

    def weights(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """The linear layers of the blocks."""
        return linear_weights(model)

    def alongside(self, model: PreTrainedModel) -> set[str]:
        """All else in the blocks: biases, norms, convolutions and states; the embeddings stay frozen."""
        return other_parameters(model)

    def max_positions(self, config: PretrainedConfig) -> int | None:
        """Longest prompt in tokens, after which an answer has room; None for a model whose states have no length."""
        positions = positions_of(config)
        return None if positions is None else max(positions - ROOM, 1)
