"""The encoder family: BERT, RoBERTa, DistilBERT, ELECTRA, MiniLM, … with a span head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    AutoModelForQuestionAnswering,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from compresskit.models.defaults import BY_FAMILY, TrainingDefaults
from compresskit.models.task import Task
from compresskit.models.tasks.spans import SPANS

# What transformers says while it loads and saves would run through our own lines.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


class EncoderFamily:
    """Transformer encoders; [CLS] stands for "no answer"."""

    name = "encoder"
    task: Task = SPANS
    defaults: TrainingDefaults = BY_FAMILY["encoder"]

    def owns(self, config: PretrainedConfig) -> bool:
        """Whether transformers knows a question-answering head for this encoder-only configuration.

        It knows one for many decoders too; those generate text, and were not trained to fill in masks.
        """
        kind = type(config)
        decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
        return kind in MODEL_FOR_QUESTION_ANSWERING_MAPPING and not (decoder or config.is_encoder_decoder)

    def load(self, folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        """Open a folder with AutoModelForQuestionAnswering; also the names of parameters that it lacks."""
        model, info = AutoModelForQuestionAnswering.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        return model, set(info["missing_keys"])

    def build(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model of this configuration with random weights."""
        model: PreTrainedModel = AutoModelForQuestionAnswering.from_config(config, trust_remote_code=False)
        return model

    def head(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters outside the base model."""
        prefix = model.base_model_prefix + "."
        return {name for name, _ in model.named_parameters() if not name.startswith(prefix)}

    def weights(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """The linear layers of the repeated blocks: attention and FFN; not embeddings, pooler or head."""
        return {f"{name}.weight": module for name, module in _block_modules(model) if isinstance(module, nn.Linear)}

    def alongside(self, model: PreTrainedModel) -> set[str]:
        """Biases and norms of the repeated blocks, and the head; embeddings stay frozen (Sanh et al. 2020)."""
        blocks = {f"{name}.{p}" for name, m in _block_modules(model) for p, _ in m.named_parameters(recurse=False)}
        return blocks - set(self.weights(model)) | self.head(model)

    def max_positions(self, config: PretrainedConfig) -> int | None:
        """Longest input in tokens; RoBERTa's positions start after its padding index."""
        positions: int | None = getattr(config, "max_position_embeddings", None)
        if positions is not None and config.model_type in ("roberta", "xlm-roberta", "camembert"):
            return positions - int(config.pad_token_id) - 1
        return positions


def _block_modules(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Modules below a ModuleList of the base model, by qualified name: the repeated blocks of any encoder."""
    blocks = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.startswith(model.base_model_prefix + ".")
    ]
    for name, module in model.named_modules():
        if any(name.startswith(block + ".") for block in blocks):
            yield name, module
