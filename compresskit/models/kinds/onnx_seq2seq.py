"""The three ONNX graphs of an encoder-decoder, asked as its torch model is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from compresskit.models.kinds.onnx_session import Session

ENCODER_INPUTS = ("input_ids", "attention_mask")
DECODER_INPUTS = ("encoder_attention_mask", "input_ids", "encoder_hidden_states")
WITH_PAST_INPUTS = ("encoder_attention_mask", "input_ids")
STATES, LOGITS = "last_hidden_state", "logits"
_MEND = "export it as a model that writes text, with its past (compresskit export --onnx)"


def cache_names(prefix: str, layers: int, *, encoder: bool) -> list[str]:
    """What Optimum calls keys and values, such as `present.0.decoder.key`, in the order of `cache_tensors`.

    `prefix` is `past_key_values` for what a graph reads, and `present` for what it gives. With `encoder` each layer has
    those of what the encoder gave too.
    """
    parts = ("decoder", "encoder") if encoder else ("decoder",)
    return [f"{prefix}.{n}.{part}.{each}" for n in range(layers) for part in parts for each in ("key", "value")]


def cache_tensors(cache: EncoderDecoderCache, *, encoder: bool) -> list[Tensor]:
    """Keys and values of a decoder's memory, layer by layer, each (batch, heads, length, width)."""
    layers: Any = zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True)
    found: list[Tensor] = []
    for own, cross in layers:
        found += [own.keys, own.values, *((cross.keys, cross.values) if encoder else ())]
    return found


def cache_of(tensors: Sequence[Tensor]) -> EncoderDecoderCache:
    """The memory that `cache_tensors` (with `encoder`) are of."""
    own = DynamicCache(list(zip(tensors[::4], tensors[1::4], strict=True)))
    return EncoderDecoderCache(own, DynamicCache(list(zip(tensors[2::4], tensors[3::4], strict=True))))


class OnnxSeq2Seq(nn.Module):
    """Encoder, decoder, and decoder with a past, in files of Optimum's layout (`paths`, in this order).

    It takes and gives what transformers' model does where text is generated; its cache is of transformers too.

    Raises MissingError without onnxruntime or its CUDA provider, InputError for a file that does not open, or a graph
    of other inputs or outputs, or of one length only.
    """

    def __init__(self, paths: Sequence[Path], config: PretrainedConfig, device: torch.device) -> None:
        super().__init__()
        self.config, self.device = config, device
        self._encoder, self._decoder, self._with_past = (Session(path, device) for path in paths)
        self._layers = sum(name.endswith(".decoder.key") for name in self._with_past.types)
        self._present = cache_names("present", self._layers, encoder=True)
        self._past = cache_names("past_key_values", self._layers, encoder=True)
        self._grown = cache_names("present", self._layers, encoder=False)
        self._encoder.check(ENCODER_INPUTS, [STATES], _MEND)
        self._decoder.check(DECODER_INPUTS, [LOGITS, *self._present], _MEND)
        # Some exporters let it read what the encoder gave, for its shape alone.
        self._with_past.check({*DECODER_INPUTS, *self._past}, [LOGITS, *self._grown], _MEND)

    def get_encoder(self) -> Callable[..., BaseModelOutput]:
        """The encoder: from `input_ids` and `attention_mask` (batch, length) to states (batch, length, width)."""
        return self._encode

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        fed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return BaseModelOutput(self._encoder.run(fed, [STATES])[STATES])

    def forward(
        self,
        attention_mask: Tensor,
        decoder_input_ids: Tensor,
        input_ids: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool = True,
    ) -> Seq2SeqLMOutput:
        """Logits (batch, tokens, vocabulary) of what follows the decoder's tokens.

        With `past_key_values` there is one token for each row; the past grows by it, in place. Without, there are
        `encoder_outputs`, or else `input_ids`.
        """
        if encoder_outputs is None:
            assert input_ids is not None
            encoder_outputs = self._encode(input_ids, attention_mask)
        assert encoder_outputs.last_hidden_state is not None
        inputs = {
            "encoder_attention_mask": attention_mask,
            "input_ids": decoder_input_ids,
            "encoder_hidden_states": encoder_outputs.last_hidden_state,
        }
        if past_key_values is not None:
            inputs |= zip(self._past, cache_tensors(past_key_values, encoder=True), strict=True)
            found = self._with_past.run(inputs, [LOGITS, *self._grown])
            layers: Any = past_key_values.self_attention_cache.layers
            for layer, key, value in zip(layers, self._grown[::2], self._grown[1::2], strict=True):
                layer.keys, layer.values = found[key], found[value]
            return Seq2SeqLMOutput(logits=found[LOGITS], past_key_values=past_key_values)
        found = self._decoder.run(inputs, [LOGITS, *(self._present if use_cache else ())])
        past = cache_of([found[name] for name in self._present]) if use_cache else None
        return Seq2SeqLMOutput(logits=found[LOGITS], past_key_values=past)
