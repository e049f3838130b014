"""The layers of the BiLSTM readers. B is the batch, C and Q the longest context and question."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

from compresskit.models.lstm.config import LstmReaderConfig

# cuDNN copies masked weights, which are computed at every step, into one buffer: a few megabytes, and no mistake.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")


class BiLSTM(nn.LSTM):
    """One bidirectional layer over padded sequences. Padding has no effect on a sequence's states; its own are 0.

    Each direction runs over the padded batch, the backward one from each sequence's own end. The other way would be to
    pack the sequences, which saves the computation of padding. But packed sequences are slower. On a CPU PyTorch then
    uses a loop over time in place of oneDNN's kernel: a step takes 1.5 times as long. On a GPU it then leaves cuDNN's
    persistent kernels for small layers (at most 128 units forward and backward, PyTorch's cudnn/RNN.cpp): a step with
    100 units takes 3 times as long on an H100. benchmarks/lstm_step.py measures both.

    The recurrence is computed in fp32 (by cuDNN in TF32). Autocast would hand cuDNN fp16 whatever its own dtype is
    (PyTorch's AutocastRNN.cpp), and most gradients of a new reader's states lie below fp16's least normal number.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """States of shape (B, time, 2·hidden) for `inputs` (B, time, input_size), of their dtype.

        `lengths` (B,), each at least 1, are on the device of the inputs.
        """
        # Read anew: a mask over a weight gives another tensor at every step, in the dtype of the computation around.
        weights = [getattr(self, name).float() for name in self._flat_weights_names]
        if torch.compiler.is_exporting():
            return self._in_graph(inputs, lengths, weights)
        back = reversal(lengths, inputs.shape[1])
        inside = torch.arange(inputs.shape[1], device=inputs.device) < lengths.unsqueeze(1)
        with torch.autocast(inputs.device.type, enabled=False):
            exact = inputs.float()
            ahead = self._one_way(exact, weights[:4])
            behind = _rows(self._one_way(_rows(exact, back), weights[4:]), back)
            states = torch.cat((ahead, behind), dim=2) * inside.unsqueeze(2)
        return states.to(inputs.dtype)

    def _in_graph(self, inputs: Tensor, lengths: Tensor, weights: list[Tensor]) -> Tensor:
        """The same as a node of ONNX, which an export would otherwise unroll over the time of its example."""
        inward, recurrent, biases = (torch.stack([_onnx_gates(w) for w in weights[part::4]]) for part in (0, 1, 2))
        more = torch.stack([_onnx_gates(bias) for bias in weights[3::4]])
        (states, *_) = torch.onnx.ops.symbolic_multi_out(
            "LSTM",
            (inputs.transpose(0, 1), inward, recurrent, torch.cat((biases, more), dim=1), lengths.int()),
            attrs={"hidden_size": self.hidden_size, "direction": "bidirectional"},
            dtypes=(inputs.dtype,) * 3,
            shapes=(
                (inputs.shape[1], 2, inputs.shape[0], self.hidden_size),
                *2 * [(2, inputs.shape[0], self.hidden_size)],
            ),
            version=17,
        )
        return states.permute(2, 0, 1, 3).flatten(2)

    def _one_way(self, inputs: Tensor, weights: list[Tensor]) -> Tensor:
        """States (B, time, hidden) of one direction, whose four `weights` are given, from the first step on."""
        # Not by nn.LSTM's own forward, which would take the masked weights anew, in the dtype that they come in.
        zeros = inputs.new_zeros(1, inputs.shape[0], self.hidden_size)
        states: Tensor = torch.lstm(inputs, (zeros, zeros), weights, True, 1, 0.0, self.training, False, True)[0]
        return states


def _onnx_gates(weight: Tensor) -> Tensor:
    """The rows of a weight or a bias in ONNX's order of gates: input, output, forget, cell."""
    size = weight.shape[0] // 4
    enter, forget, cell, leave = (weight[gate * size : (gate + 1) * size] for gate in range(4))
    return torch.cat((enter, leave, forget, cell))


def reversal(lengths: Tensor, time: int) -> Tensor:
    """The time step that takes the place of each: the first `lengths` (B,) ones backwards, padding in its place."""
    step = torch.arange(time, device=lengths.device)
    return torch.where(step < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - step, step)


def _rows(states: Tensor, step: Tensor) -> Tensor:
    return states.gather(1, step.unsqueeze(2).expand(-1, -1, states.shape[2]))


class SequenceDropout(nn.Module):
    """Dropout that takes the same numbers from every time step of a sequence (Gal & Ghahramani 2016, arXiv 1512.05287).

    It suits recurrent nets, and a CPU, on which drawing a mask for every step took a quarter of the training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, states: Tensor) -> Tensor:
        """States (B, time, size) with the fraction `rate` of the numbers of each sequence dropped while training."""
        if not self.training or not self.rate:
            return states
        return states * functional.dropout(states.new_ones(len(states), 1, states.shape[2]), self.rate)


class CharacterCnn(nn.Module):
    """A word's vector from its letters: a convolution over their embeddings, the maximum over places (Kim 2014).

    The letters are the first bytes of the word's UTF-8 form, 0 where it is shorter: a table of shape (words, bytes),
    which belongs to the vocabulary and is saved with the weights.
    """

    table: Tensor

    def __init__(self, config: LstmReaderConfig) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(config.vocab_size, config.character_length, dtype=torch.uint8))
        self.letters = nn.Embedding(256, config.character_dim, padding_idx=0)
        self.convolution = nn.Conv1d(
            config.character_dim, config.character_filters, config.character_width, padding="same"
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (…, filters) of words `ids` (…); each different word of the batch is read once."""
        if torch.compiler.is_exporting():  # how many words differ is not known in a graph
            return self._read(ids.flatten()).view(*ids.shape, -1)
        words, where = torch.unique(ids, return_inverse=True)
        # Not `vectors[where]`, whose gradient is summed in another order at every step where there are several threads.
        return functional.embedding(where, self._read(words))

    def _read(self, words: Tensor) -> Tensor:
        letters = self.letters(self.table[words].long()).transpose(1, 2)
        vectors: Tensor = functional.relu(self.convolution(letters)).amax(dim=2)
        return vectors


class Highway(nn.Module):
    """`g · relu(W x) + (1 - g) · x` with a gate of its own for every number (Srivastava et al. 2015)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.transform = nn.Linear(size, size)
        self.gate = nn.Linear(size, size)

    def forward(self, inputs: Tensor) -> Tensor:
        """Same shape as `inputs` (…, size)."""
        gate = torch.sigmoid(self.gate(inputs))
        mixed: Tensor = gate * functional.relu(self.transform(inputs)) + (1 - gate) * inputs
        return mixed


class AdditiveAttention(nn.Module):
    """What the context finds in the question, scored by `v · tanh(W c + U q)` (Bahdanau et al. 2015)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.context, self.question = nn.Linear(size, size // 2), nn.Linear(size, size // 2, bias=False)
        self.score = nn.Linear(size // 2, 1, bias=False)

    def forward(self, context: Tensor, question: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
        """Attended states (B, C, size) for context (B, C, size), question (B, Q, size) and their masks."""
        hidden = torch.tanh(self.context(context).unsqueeze(2) + self.question(question).unsqueeze(1))
        scores = self.score(hidden).squeeze(3).masked_fill(~seen[1].unsqueeze(1), -1e4)
        found: Tensor = scores.softmax(dim=2) @ question
        return found


class DotAttention(nn.Module):
    """Scaled dot products in several heads (Vaswani et al. 2017).

    The context looks at the question, or with `joint` at question and context together (self-attention).
    """

    def __init__(self, size: int, heads: int, *, joint: bool) -> None:
        super().__init__()
        self.heads, self.joint = heads, joint
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.output = nn.Linear(size, size)

    def forward(self, context: Tensor, question: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
        """Attended states (B, C, size) for context (B, C, size), question (B, Q, size) and their masks."""
        source, mask = question, seen[1]
        if self.joint:
            source, mask = torch.cat((question, context), dim=1), torch.cat((seen[1], seen[0]), dim=1)
        query, key, value = (
            layer(states).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, states in ((self.query, context), (self.key, source), (self.value, source))
        )
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        output: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return output


class Matching(nn.Module):
    """Every position of the context beside what attention finds for it: (B, C, size) to `[c; m; c ⊙ m]` (B, C, 3·size).

    With `residual`, `m` is the normalized sum of the position and what it finds (He et al. 2016), else what it finds.
    """

    def __init__(self, config: LstmReaderConfig) -> None:
        super().__init__()
        size = 2 * config.hidden_size
        self.attention: nn.Module
        if config.attention == "additive":
            self.attention = AdditiveAttention(size)
        else:
            joint = config.attention == "self"
            self.attention = DotAttention(size, 1 if joint else config.attention_heads, joint=joint)
        self.norm = nn.LayerNorm(size) if config.residual else None

    def forward(self, context: Tensor, question: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
        """Features (B, C, 3·size); `seen` are the boolean masks (B, C) and (B, Q)."""
        found = self.attention(context, question, seen)
        if self.norm is not None:
            found = self.norm(context + found)
        return torch.cat((context, found, context * found), dim=2)


class AttentionFlow(nn.Module):
    """Bidirectional attention flow: context to question and question to context (Seo et al. 2017, arXiv 1611.01603).

    The similarity `w · [h; u; h ⊙ u]` is computed without the tensor of all pairs' vectors. With `residual`, what the
    context finds is added to it and normalized.
    """

    def __init__(self, config: LstmReaderConfig) -> None:
        super().__init__()
        size = 2 * config.hidden_size
        self.context, self.question = nn.Linear(size, 1), nn.Linear(size, 1, bias=False)
        self.both = nn.Linear(size, 1, bias=False)
        self.norm = nn.LayerNorm(size) if config.residual else None

    def forward(self, context: Tensor, question: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
        """Features `[h; ũ; h ⊙ ũ; h ⊙ h̃]` (B, C, 4·size); `seen` are the boolean masks (B, C) and (B, Q)."""
        similarity = self.context(context) + self.question(question).transpose(1, 2)
        similarity = similarity + (context * self.both.weight[0]) @ question.transpose(1, 2)
        similarity = similarity.masked_fill(~seen[1].unsqueeze(1), -1e4)
        found = similarity.softmax(dim=2) @ question
        if self.norm is not None:
            found = self.norm(context + found)
        weights = similarity.amax(dim=2).masked_fill(~seen[0], -1e4).softmax(dim=1)
        asked = (weights.unsqueeze(1) @ context).expand_as(context)
        return torch.cat((context, found, context * found, context * asked), dim=2)
