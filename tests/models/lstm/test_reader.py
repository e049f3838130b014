"""The whole reader against a plain reading of docs/reference/lstm.md: a window at a time, no padding, torch's LSTM.

Attention, letters and highway layers are the reader's own modules here; test_layers.py holds each against its formula.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compresskit.models.lstm.family import LstmFamily
from compresskit.models.lstm.layers import BiLSTM, SequenceDropout
from compresskit.models.lstm.model import LstmReader
from tests.models.lstm import small

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{variant: (variant, {}) for variant in small.VARIANTS},
    "two layers": ("3", {"layers": 2}),
    "modelled, alone": ("bidaf", {"pooling": "flatten", "modelling_layers": 1, "residual": True}),
    "letters": ("1", {"characters": True, "highway": 1, "exact_match": True, "pooling": "max"}),
}


def reader(folder: Path, kind: str, **changes: Any) -> LstmReader:
    """A reader in which every parameter is random, biases too."""
    variant, settings = KINDS[kind]
    model = small.model(folder, variant, **{**settings, **changes})
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


def lstm(layer: BiLSTM, states: Tensor) -> Tensor:
    """Both directions over one sequence (time, size)."""
    other = nn.LSTM(layer.input_size, layer.hidden_size, bidirectional=True)
    other.load_state_dict(layer.state_dict())
    found: Tensor = other(states)[0]
    return found


def embedded(model: LstmReader, words: Tensor, others: Tensor) -> Tensor:
    part = model.embeddings
    vectors = part.words.weight[words]
    if part.characters is not None:
        vectors = torch.cat((vectors, part.characters(words)), dim=1)
    for layer in part.highway:
        vectors = layer(vectors)
    if model.config.exact_match:
        known = torch.tensor([[float(word in others.tolist())] for word in words.tolist()])
        vectors = torch.cat((vectors, known), dim=1)
    return vectors


def expected(model: LstmReader, question: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the context (time, 2) and of "no answer" (2,)."""
    above, below = embedded(model, context, question), embedded(model, question, context)
    for layer in model.encoder:
        assert isinstance(layer, BiLSTM)
        above, below = lstm(layer, above), lstm(layer, below)
    whole = (torch.ones(1, len(context), dtype=torch.bool), torch.ones(1, len(question), dtype=torch.bool))
    features = model.interaction(above[None], below[None], whole)[0]
    head: Any = model.head
    modelled: list[Any] = list(model.modelling)
    start = end = features
    if modelled:
        states = features
        for layer in modelled[:-1]:
            states = lstm(layer, states)
        start = torch.cat((features, states), dim=1)
        end = torch.cat((features, lstm(modelled[-1], states)), dim=1)
    summary = start.max(dim=0).values
    null = head.null_bias if head.null is None else head.null(summary)
    if not modelled:
        hidden = head.hidden(features)
        if model.config.pooling == "max":
            hidden = hidden + head.pooled(summary)
        start = end = hidden.clamp(min=0)
    return torch.cat((head.start(start), head.end(end)), dim=1), null


@pytest.mark.parametrize("kind", KINDS)
def test_logits(tmp_path: Path, kind: str) -> None:
    model, encoded = reader(tmp_path, kind), small.batch()
    out = model(**encoded)
    for row, (question, context) in enumerate(small.parts(encoded)):
        logits, null = expected(model, question, context)
        first = len(question) + 2
        for side, found in enumerate((out.start_logits[row], out.end_logits[row])):
            torch.testing.assert_close(found[first : first + len(context)], logits[:, side], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found[0], null[side], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "heads"), [("3", 4), ("4", 1)])
def test_heads(tmp_path: Path, kind: str, heads: int) -> None:
    interaction: Any = reader(tmp_path, kind).interaction
    assert interaction.attention.heads == heads


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_on_vectors_on_what_each_lstm_gives_and_on_what_the_head_reads(tmp_path: Path, kind: str) -> None:
    model = reader(tmp_path, kind, dropout=0.5).train()
    rates: list[float] = []
    for module in model.modules():
        if isinstance(module, SequenceDropout):
            module.register_forward_hook(lambda module, *_: rates.append(module.rate))
    model(**small.batch())
    layers, modelling = len(model.encoder), len(model.modelling)
    # Question and context have their own; the last LSTM is read by the head alone; the hidden layer has one more.
    assert len(rates) == 2 + 2 * layers + max(modelling - 1, 0) + 2 + (not modelling)
    assert set(rates) == {0.5}


@pytest.mark.parametrize("kind", KINDS)
def test_under_masks_all_may_learn_but_the_words_vectors(tmp_path: Path, kind: str) -> None:
    model, family = reader(tmp_path, kind), LstmFamily()
    masked = set(family.weights(model))
    names = {name for name, _ in model.named_parameters()}
    assert masked == {n for n in names if ".weight_ih_l0" in n or ".weight_hh_l0" in n}
    assert family.alongside(model) == names - masked - {"embeddings.words.weight"}


def test_the_loss_of_labels_and_the_tuple(tmp_path: Path) -> None:
    model, encoded = reader(tmp_path, "bidaf"), small.batch()
    first, last = torch.tensor([0, 5]), torch.tensor([0, 6])
    out = model(**encoded, start_positions=first, end_positions=last)
    by_hand = [
        -out[f"{side}_logits"][row].log_softmax(0)[at[row]]
        for side, at in (("start", first), ("end", last))
        for row in (0, 1)
    ]
    torch.testing.assert_close(out.loss, torch.stack(by_hand).mean())
    loss, starts, ends = model(**encoded, start_positions=first, end_positions=last, return_dict=False)
    assert torch.equal(loss, out.loss)
    assert torch.equal(starts, out.start_logits)
    assert torch.equal(ends, out.end_logits)
    assert model(**encoded).loss is None
