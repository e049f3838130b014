"""The seq2seq family: T5, Flan-T5, mT5, BART, … : an encoder reads the prompt, a decoder writes the answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
)

from compresskit.models.blocks import linear_weights, other_parameters
from compresskit.models.defaults import BY_FAMILY, TrainingDefaults
from compresskit.models.pretrained import from_folder
from compresskit.models.task import Task
from compresskit.models.tasks.generation import GENERATION


class Seq2SeqFamily:
    """Encoder-decoder transformers that write text."""

    name = "seq2seq"
    task: Task = GENERATION
    defaults: TrainingDefaults = BY_FAMILY["seq2seq"]

    def owns(self, config: PretrainedConfig) -> bool:
        """Whether transformers knows a model for this configuration that reads one text and writes another."""
        return type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    def load(self, folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        """Open a folder with AutoModelForSeq2SeqLM; also the names of parameters that it lacks."""
        return from_folder(AutoModelForSeq2SeqLM, folder, config, dtype, self.head)

    def build(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model of this configuration with random weights."""
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config, trust_remote_code=False)
        return model

    def head(self, model: PreTrainedModel) -> set[str]:
        """None: what writes the answers was pretrained, and is a part of the model."""
        return set()

    def weights(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """The linear layers of encoder and decoder blocks: attention, cross-attention and FFN."""
        return linear_weights(model)

    def alongside(self, model: PreTrainedModel) -> set[str]:
        """Biases, norms and relative positions of the blocks; the embeddings stay frozen."""
        return other_parameters(model)

    def max_positions(self, config: PretrainedConfig) -> int | None:
        """Longest prompt in tokens; None for T5, whose positions are relative."""
        return getattr(config, "max_position_embeddings", None)
