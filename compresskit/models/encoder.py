"""The encoder family: BERT, RoBERTa, DistilBERT, ELECTRA, MiniLM, … : what transformers has a span head for.

A decoder or an encoder-decoder with such a head (GPT-2, Llama, BART, T5) encodes a window just as well.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from transformers.models.ibert.quant_modules import QuantLinear
from transformers.utils import logging as transformers_logging

from compresskit.models.blocks import linear_weights, modules_of_blocks, other_parameters
from compresskit.models.defaults import BY_FAMILY, TrainingDefaults
from compresskit.models.pretrained import from_folder
from compresskit.models.task import Task
from compresskit.models.tasks.readable import check_readable
from compresskit.models.tasks.spans import SPANS

# What transformers says while it loads and saves would run through our own lines.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

# Where configurations keep how many positions there are. LED has two numbers, and reads a window on either side.
POSITIONS = (
    "max_position_embeddings",
    "max_seq_len",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)
# Whose positions start after the number of the padding token, as RoBERTa's do, within a table of so many positions.
AFTER_PADDING = frozenset(
    {
        "camembert",
        "data2vec-text",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)


class EncoderFamily:
    """Transformers that read spans; [CLS], or the first token where there is none, stands for "no answer"."""

    name = "encoder"
    task: Task = SPANS
    defaults: TrainingDefaults = BY_FAMILY["encoder"]

    def owns(self, config: PretrainedConfig) -> bool:
        """Whether transformers knows a question-answering head for this configuration, and it is meant to have one.

        A decoder or an encoder-decoder writes text, unless the configuration names a model with such a head.
        """
        kind = type(config)
        named = any("ForQuestionAnswering" in name for name in config.architectures or ())
        writes = is_decoder(config) or config.is_encoder_decoder
        return kind in MODEL_FOR_QUESTION_ANSWERING_MAPPING and (named or not writes)

    def load(self, folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        """Open a folder with AutoModelForQuestionAnswering; also the names of parameters that it lacks.

        Raises InputError for a model that cannot be read from text alone.
        """
        check_readable(config)
        return from_folder(AutoModelForQuestionAnswering, folder, config, dtype, self.head)

    def build(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model of this configuration with random weights. Raises InputError for one that reads more than text."""
        check_readable(config)
        model: PreTrainedModel = AutoModelForQuestionAnswering.from_config(config, trust_remote_code=False)
        return model

    def head(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters outside the base model, or where that is no module (T5), outside its parts."""
        base = {model.base_model_prefix} if hasattr(model, model.base_model_prefix) else _parts(model)
        return {name for name, _ in model.named_parameters() if name.partition(".")[0] not in base}

    def weights(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """The linear layers of the repeated blocks: attention and FFN; not embeddings, pooler or head.

        I-BERT's are its own `QuantLinear`, which reads `weight` as a linear layer does, quantized or not.
        """
        integer = {f"{name}.weight": m for name, m in modules_of_blocks(model) if isinstance(m, QuantLinear)}
        return {**linear_weights(model), **integer}

    def alongside(self, model: PreTrainedModel) -> set[str]:
        """Biases and norms of the repeated blocks, and the head; embeddings stay frozen (Sanh et al. 2020)."""
        return other_parameters(model) - set(self.weights(model)) | self.head(model)

    def max_positions(self, config: PretrainedConfig) -> int | None:
        """Longest input in tokens; RoBERTa's positions start after its padding index. XLNet's -1 is no limit."""
        known = [getattr(config, name, None) for name in POSITIONS]
        positions: int | None = min((number for number in known if number is not None and number > 0), default=None)
        if positions is not None and config.model_type in AFTER_PADDING:
            return positions - int(config.pad_token_id) - 1
        return positions


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether models of this configuration are decoders alone, which were not trained to fill in masks."""
    kind = type(config)
    goes_on = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    return goes_on and not config.is_encoder_decoder


def _parts(model: PreTrainedModel) -> set[str]:
    """The parts of a model that hold blocks or are its embeddings of words, by name."""
    words: nn.Module = model.get_input_embeddings()
    return {
        name
        for name, part in model.named_children()
        if part is words or any(isinstance(module, nn.ModuleList) for module in part.modules())
    }
