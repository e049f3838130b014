"""The encoder family: BERT, RoBERTa, DistilBERT, ELECTRA, MiniLM, … with a span head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    AutoModelForQuestionAnswering,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from compresskit.models.safetensors import find_tensor
from compresskit.models.span import SpanFamily

# How the tensors of a masked-LM head are called by BERT and its like, by RoBERTa, and by DistilBERT.
MASKED_LM_HEADS = ("cls.predictions.", "lm_head.", "vocab_transform.")


class EncoderFamily(SpanFamily):
    """Transformer encoders; [CLS] stands for "no answer"."""

    name = "encoder"

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
        """A model with random weights, for configurations that have no pretrained ones."""
        model: PreTrainedModel = AutoModelForQuestionAnswering.from_config(config)
        return model

    def head(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters outside the base model."""
        prefix = model.base_model_prefix + "."
        return {name for name, _ in model.named_parameters() if not name.startswith(prefix)}

    def prunable(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """The linear layers of the repeated blocks: attention and FFN; not embeddings, pooler or head."""
        return {f"{name}.weight": module for name, module in _block_modules(model) if isinstance(module, nn.Linear)}

    def trainable_with_masks(self, model: PreTrainedModel) -> set[str]:
        """Biases and norms of the repeated blocks, and the head; embeddings stay frozen (Sanh et al. 2020)."""
        blocks = {f"{name}.{p}" for name, m in _block_modules(model) for p, _ in m.named_parameters(recurse=False)}
        return blocks | self.head(model)

    def label_head(self, folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> bool:
        """Start and end logits from the embeddings of "yes" and "no", if there is a masked-LM head (arXiv 2210.06210).

        The label words' embeddings mean something only where the output of the encoder was trained to match them, so
        a base without a masked-LM head keeps its random head (and the head is trained).
        """
        words = [tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
        head = dict(model.named_parameters()).get("qa_outputs.weight")
        if head is None or tokenizer.unk_token_id in words or not find_tensor(folder, MASKED_LM_HEADS):
            return False
        embeddings = model.get_input_embeddings().get_parameter("weight")
        if embeddings.shape[1] != head.shape[1]:
            return False
        with torch.no_grad():
            head.copy_(embeddings[words])
            model.get_parameter("qa_outputs.bias").zero_()
        return True

    def penalty(self, config: PretrainedConfig, learning: Sequence[tuple[str, nn.Parameter]]) -> Tensor | None:
        """Nothing: encoders are fine-tuned with weight decay alone."""
        return None

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
