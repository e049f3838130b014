"""From an encoder-decoder in torch to three ONNX graphs in Optimum's layout, and the comparison of the two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from compresskit.methods.export.graph import WEIGHTS, check_difference, traced
from compresskit.methods.export.shared import save_shared
from compresskit.models.device import resolve_device
from compresskit.models.kinds.onnx import SEQ2SEQ
from compresskit.models.kinds.onnx_seq2seq import (
    DECODER_INPUTS,
    ENCODER_INPUTS,
    LOGITS,
    STATES,
    WITH_PAST_INPUTS,
    OnnxSeq2Seq,
    cache_names,
    cache_of,
    cache_tensors,
)
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import difference, texts

# A comparison reads so many tokens of a decoder at once, and then the others one by one.
FIRST = 2


class _Encoder(nn.Module):
    """From the encoder's tokens and their mask, both (batch, length), to its states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States (batch, length, width)."""
        states: Tensor = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return states


class _Decoder(nn.Module):
    """A decoder that has read nothing yet."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, mask: Tensor, ids: Tensor, states: Tensor) -> tuple[Tensor, ...]:
        """Logits (batch, tokens, vocabulary), and the whole cache."""
        found = _decode(self.model, states, mask, ids)
        return found.logits, *cache_tensors(found.past_key_values, encoder=True)


class _WithPast(nn.Module):
    """A decoder that has a cache, and reads one more token."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, mask: Tensor, ids: Tensor, past: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Logits (batch, 1, vocabulary), and what the decoder has read by now."""
        # What the encoder gave is in the cache: here only its length is asked for.
        states = torch.zeros((*mask.shape, 1))
        found = _decode(self.model, states, mask, ids, cache_of(past))
        return found.logits, *cache_tensors(found.past_key_values, encoder=False)


def _decode(model: Any, states: Tensor, mask: Tensor, ids: Tensor, cache: Any = None) -> Any:
    return model(
        encoder_outputs=BaseModelOutput(states),
        attention_mask=mask,
        decoder_input_ids=ids,
        past_key_values=cache,
        use_cache=True,
    )


def write_graphs(loaded: TrainableModel, folder: Path) -> float:
    """Write the three graphs of a model and their weights, compared with the model; the largest difference.

    Batch, lengths and past are free. Raises RunFailed where there are no such graphs, or they answer otherwise.
    """
    save_shared(graphs(loaded), folder, WEIGHTS)
    worst = compared(loaded, folder)
    check_difference(loaded.ref, worst)
    return worst


@torch.no_grad()
def graphs(loaded: TrainableModel) -> dict[str, onnx_ir.Model]:
    """Encoder, decoder, and decoder with past, by the names of their files.

    Raises RunFailed where there are none.
    """
    model: Any = loaded.model.eval()
    _untie(model)
    batch, length, tokens, past = (torch.export.Dim(name) for name in ("batch", "length", "tokens", "past"))
    ids, mask = torch.ones((2, 7), dtype=torch.long), torch.ones((2, 7), dtype=torch.long)
    decoder = _Decoder(model)
    states = _Encoder(model)(ids, mask)
    cache = decoder(mask, ids[:, :3], states)[1:]
    layers = len(cache) // 4
    present, grown = (cache_names("present", layers, encoder=encoder) for encoder in (True, False))
    read = {0: batch, 1: length}
    known = [{0: batch, 2: past}, {0: batch, 2: past}, {0: batch, 2: length}, {0: batch, 2: length}]
    return {
        SEQ2SEQ[0]: traced(
            loaded.ref, _Encoder(model), (ids, mask), names=(ENCODER_INPUTS, [STATES]), free=(read, read)
        ),
        SEQ2SEQ[1]: traced(
            loaded.ref,
            decoder,
            (mask, ids[:, :3], states),
            names=(DECODER_INPUTS, [LOGITS, *present]),
            free=(read, {0: batch, 1: tokens}, read),
        ),
        SEQ2SEQ[2]: traced(
            loaded.ref,
            _WithPast(model),
            (mask, ids[:, :1], cache),
            names=([*WITH_PAST_INPUTS, *cache_names("past_key_values", layers, encoder=True)], [LOGITS, *grown]),
            free=(read, {0: batch}, tuple(known * layers)),
        ),
    }


def _untie(model: Any) -> None:
    """Give the output over the vocabulary weights of its own, which the exporter then turns into what a product takes.

    What is equal is written once all the same.
    """
    output = model.get_output_embeddings()
    output.weight = nn.Parameter(output.weight.detach().clone(), requires_grad=False)


@torch.inference_mode()
def compared(loaded: TrainableModel, folder: Path) -> float:
    """How far the graphs in a folder are from the model, in parts of the largest number.

    Compared are the encoder's states, and the logits of a first pass and of steps with a past, of random texts.
    """
    paths = [folder / name for name in SEQ2SEQ]
    graph, worst = OnnxSeq2Seq(paths, loaded.model.config, resolve_device("cpu")), 0.0
    for batch in texts(loaded):
        pairs = zip(_told(graph, **batch), _told(loaded.model.eval(), **batch), strict=True)
        worst = max(worst, *(difference(found, expected) for found, expected in pairs))
    return worst


def _told(model: Any, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> list[Tensor]:
    """The encoder's states, and the logits of each step of the decoder."""
    states = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    told, cache = [states], None
    for ids in (decoder_input_ids[:, :FIRST], *torch.split(decoder_input_ids[:, FIRST:], 1, dim=1)):
        found = _decode(model, states, attention_mask, ids, cache)
        cache = found.past_key_values
        told.append(found.logits)
    return told
