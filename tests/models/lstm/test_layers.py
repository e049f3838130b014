"""Each layer against a plain loop, or against torch's own LSTM one sequence at a time."""

import copy

import pytest
import torch
from torch import Tensor, nn

from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.masker import Masker
from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.layers import (
    AdditiveAttention,
    AttentionFlow,
    BiLSTM,
    CharacterCnn,
    DotAttention,
    Highway,
    Matching,
    SequenceDropout,
    reversal,
)
from compresskit.models.lstm.variants import Attention

LENGTHS = [4, 1, 7, 3]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def sequences(size: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(len(LENGTHS), max(LENGTHS), size), torch.tensor(LENGTHS)


def plain(layer: BiLSTM) -> nn.LSTM:
    """Torch's LSTM with the same effective weights."""
    other = nn.LSTM(layer.input_size, layer.hidden_size, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for name in other._flat_weights_names:
            getattr(other, name).copy_(getattr(layer, name))
    return other


def test_a_layer_reads_each_sequence_as_if_it_were_alone() -> None:
    inputs, lengths = sequences()
    layer = BiLSTM(5, 3)
    states = layer(inputs, lengths)
    for row, length in enumerate(LENGTHS):
        expected, _ = plain(layer)(inputs[row : row + 1, :length])
        torch.testing.assert_close(states[row, :length], expected[0])
        assert not states[row, length:].any()


def test_its_gradients_are_those_of_a_packed_lstm() -> None:
    inputs, lengths = sequences()
    layer = BiLSTM(5, 3)
    other = plain(layer)
    layer(inputs, lengths).square().sum().backward()
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    other(packed)[0].data.square().sum().backward()
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(layer.get_parameter(name).grad, parameter.grad)


def test_masks_over_all_four_matrices_are_read_and_learned() -> None:
    inputs, lengths = sequences()
    layer = BiLSTM(5, 3)
    dense = copy.deepcopy(layer)
    names = [name for name, parameter in layer.named_parameters() if parameter.ndim == 2]
    masker = Masker(dict.fromkeys(names, layer), PruneConfig(sparsity=0.5, penalty=0.0, cooldown=0.0))
    for scores in masker.scores():
        nn.init.normal_(scores)
    layer.train()
    masker.step(1.0)
    layer(inputs, lengths).square().sum().backward()

    other = plain(layer)
    masked = {name: other.get_parameter(name) for name in names}
    assert all(0.3 < float((weight == 0).float().mean()) < 0.7 for weight in masked.values())
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    other(packed)[0].data.square().sum().backward()
    for name, scores in zip(names, masker.scores(), strict=True):
        gradient = masked[name].grad
        assert gradient is not None
        torch.testing.assert_close(scores.grad, gradient * dense.get_parameter(name))

    masks = masker.final_masks()
    masker.remove(masks)
    assert set(layer.state_dict()) == set(dense.state_dict())
    for name in names:
        kept = torch.from_numpy(masks[name].expand())
        torch.testing.assert_close(layer.get_parameter(name).detach(), dense.get_parameter(name).detach() * kept)
    states = layer(inputs, lengths)
    torch.testing.assert_close(states[0, :4], plain(layer)(inputs[:1, :4])[0][0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_recurrence_is_in_fp32_whatever_is_around_it(dtype: torch.dtype) -> None:
    inputs, lengths = sequences()
    layer = BiLSTM(5, 3)
    expected = layer(inputs, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(inputs, lengths), expected)
    for parameter in layer.parameters():  # half the bytes, the same arithmetic
        parameter.data = parameter.data.to(dtype)
    rounded = plain(layer)
    found = layer(inputs.to(dtype), lengths)
    assert found.dtype == dtype
    for row, length in enumerate(LENGTHS):
        exact, _ = rounded(inputs.to(dtype).float()[row : row + 1, :length])
        assert torch.equal(found[row, :length], exact[0].to(dtype))


def test_reversal_twice_is_nothing() -> None:
    lengths = torch.tensor(LENGTHS)
    back = reversal(lengths, max(LENGTHS))
    assert back[0].tolist() == [3, 2, 1, 0, 4, 5, 6]
    steps = torch.arange(max(LENGTHS)).expand(len(LENGTHS), -1)
    assert torch.equal(steps.gather(1, back).gather(1, back), steps)


def test_dropout_takes_the_same_numbers_from_every_step() -> None:
    states = torch.ones(3, 8, 400)
    layer = SequenceDropout(0.25)
    dropped = layer(states)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert float((dropped[:, 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert layer.eval()(states) is states


def test_letters_are_convolved_and_the_greatest_taken() -> None:
    config = LstmReaderConfig(vocab_size=6, character_dim=3, character_filters=4, character_width=3, character_length=5)
    layer = CharacterCnn(config)
    layer.table.copy_(torch.randint(0, 200, (6, 5)))
    ids = torch.tensor([[4, 1, 4], [0, 5, 1]])
    found = layer(ids)
    weight, bias = layer.convolution.weight, layer.convolution.bias
    assert bias is not None
    for place in ((0, 0), (1, 1), (1, 2)):
        letters = layer.letters(layer.table[ids[place]].long())
        padded = torch.cat((torch.zeros(1, 3), letters, torch.zeros(1, 3)))
        windows = torch.stack([(padded[at : at + 3].T * weight).sum(dim=(1, 2)) + bias for at in range(5)])
        torch.testing.assert_close(found[place], windows.relu().max(dim=0).values)


def test_the_gradients_of_letters_are_the_same_every_time() -> None:
    """Many places share a word; what they give must be summed in one order, or no run on several threads repeats."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        config = LstmReaderConfig(vocab_size=40)
        layer = CharacterCnn(config)
        layer.table.copy_(torch.randint(0, 200, layer.table.shape))
        ids, weights = torch.randint(0, 40, (64, 60)), torch.randn(64, 60, config.character_filters)
        found = []
        for _ in range(8):
            layer.zero_grad()
            (layer(ids) * weights).sum().backward()
            assert layer.convolution.weight.grad is not None
            found.append(layer.convolution.weight.grad.clone())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found)


def test_a_highway_mixes_what_it_makes_with_what_it_got() -> None:
    layer, inputs = Highway(4), torch.randn(2, 4)
    gate = torch.sigmoid(inputs @ layer.gate.weight.T + layer.gate.bias)
    made = (inputs @ layer.transform.weight.T + layer.transform.bias).clamp(min=0)
    torch.testing.assert_close(layer(inputs), gate * made + (1 - gate) * inputs)


# Attention: context (B, C, size), question (B, Q, size), each with its own lengths.


def states(size: int = 8) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    context, question = torch.randn(2, 5, size), torch.randn(2, 4, size)
    inside = torch.arange(5) < torch.tensor([[5], [3]])
    asked = torch.arange(4) < torch.tensor([[2], [4]])
    return context * inside.unsqueeze(2), question * asked.unsqueeze(2), (inside, asked)


def test_additive_attention() -> None:
    context, question, seen = states()
    layer = AdditiveAttention(8)
    found = layer(context, question, seen)
    for row, words in ((0, 2), (1, 4)):
        for position in range(3):
            scores = torch.stack(
                [
                    (
                        layer.score.weight[0] * torch.tanh(layer.context(context[row, position]) + layer.question(word))
                    ).sum()
                    for word in question[row, :words]
                ]
            )
            torch.testing.assert_close(found[row, position], scores.softmax(0) @ question[row, :words])


@pytest.mark.parametrize(("heads", "joint"), [(4, False), (1, True), (2, True)])
def test_dot_products_are_those_of_torchs_multihead_attention(heads: int, joint: bool) -> None:
    context, question, seen = states()
    layer = DotAttention(8, heads, joint=joint)
    other = nn.MultiheadAttention(8, heads, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]))
        other.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key.bias, layer.value.bias]))
        other.out_proj.weight.copy_(layer.output.weight)
        other.out_proj.bias.copy_(layer.output.bias)
    source, mask = (question, seen[1])
    if joint:
        source, mask = torch.cat((context, question), dim=1), torch.cat(seen, dim=1)
    expected, _ = other(context, source, source, key_padding_mask=~mask)
    torch.testing.assert_close(layer(context, question, seen), expected)


@pytest.mark.parametrize("attention", ["additive", "multi-head", "self"])
@pytest.mark.parametrize("residual", [False, True])
def test_matching_puts_three_things_beside_each_other(attention: Attention, residual: bool) -> None:
    context, question, seen = states()
    layer = Matching(LstmReaderConfig(hidden_size=4, attention=attention, residual=residual))
    features = layer(context, question, seen)
    found = layer.attention(context, question, seen)
    if residual:
        total = context + found
        found = (total - total.mean(2, keepdim=True)) / (total.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(features, torch.cat((context, found, context * found), dim=2))


def test_attention_flow_is_that_of_the_paper() -> None:
    context, question, seen = states()
    layer = AttentionFlow(LstmReaderConfig(hidden_size=4, attention="flow"))
    weight = torch.cat((layer.context.weight, layer.question.weight, layer.both.weight), dim=1)[0]
    features = layer(context, question, seen)
    for row, positions, words in ((0, 5, 2), (1, 3, 4)):
        h, u = context[row, :positions], question[row, :words]
        similarity = torch.stack([torch.stack([weight @ torch.cat((a, b, a * b)) for b in u]) for a in h])
        attended = similarity.softmax(1) @ u
        beside = similarity.max(1).values.softmax(0) @ h
        expected = torch.cat((h, attended, h * attended, h * beside), dim=1)
        torch.testing.assert_close(features[row, :positions], expected, rtol=1e-4, atol=1e-5)
