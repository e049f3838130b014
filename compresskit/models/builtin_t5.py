"""The tokenizer and the first weights of `demo/t5`, a tiny T5 that learns to write the answers of the demo set.

From random weights so small a T5 does not find within minutes how to match words and copy them. So some of the
attention heads start with a job; all else is random, and everything learns. The jobs of the encoder's heads, by number:

- 0 looks to the left. In layer 0 it finds "context:", and marks the words after it as words of the context. In layer 2
  it finds the word that begins the sentence, and tells whether the question names it.
- 1 looks at the word before, and in layer 0 tells the word which one that is.
- 2 and 3 look, in layer 1, at equal words, those of the question first, and mark the words that the question has.

The decoder writes what its cross-attention looks at, and after a word that is the word which followed it in the prompt:
an induction head (Olsson et al. 2022, arXiv 2209.11895). It begins among the words of sentences whose first word the
question names. What is left to be learned is which of those words begin the answer, and when there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from compresskit.data import demo
from compresskit.models.builtin_words import BLANK, END, PAD, word_tokenizer
from compresskit.models.prompt import T5

QUESTION_MARK, CONTEXT_MARK = (f"{BLANK}{part.strip()}" for part in T5.frame[:2])
UNANSWERABLE = f"{BLANK}{T5.unanswerable}"

LAYERS, WIDTH, HEADS, HEAD_WIDTH = 3, 128, 4, 32
LEFT, BEFORE, EQUAL = 0, 1, (2, 3)
# Dimensions with a meaning of their own. `ONE` is the same for all words, in place of the biases that T5 lacks;
# `CONTEXT` is above 0 for words of the context and below it for others; `ASKED` is above 0 for words that the question
# has; `SUBJECT` for words of a sentence that begins with one.
ONE, CONTEXT, ASKED, SUBJECT = range(4)
FEATURES = 8
# Words that no answer has live in the dimensions from `FEATURES` to this, the others in those above, which alone are
# copied: the decoder never has to unlearn to write "the".
ANSWERS = 48
# The strengths of the jobs, below, make a head with a job nearly sure of what it looks at.
# Scale of the random weights, as for `demo/bert`, and of those beside the decoder's copying.
GAIN, BESIDE = 0.5, 0.2


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the demo set's words, those of the prompt among them."""
    return word_tokenizer((QUESTION_MARK, CONTEXT_MARK, UNANSWERABLE), ends=True)


def model(reader: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """The model for that tokenizer, with its first weights, by torch's generator."""
    config = T5Config(
        vocab_size=len(reader),
        d_model=WIDTH,
        d_kv=HEAD_WIDTH,
        d_ff=256,
        num_heads=HEADS,
        num_layers=LAYERS,
        num_decoder_layers=1,
        dropout_rate=0.0,
        pad_token_id=reader.pad_token_id,
        eos_token_id=reader.eos_token_id,
    )
    config.decoder_start_token_id = reader.pad_token_id
    made = T5ForConditionalGeneration(config)
    _initialize(made, reader)
    return made


@torch.no_grad()
def _initialize(made: T5ForConditionalGeneration, reader: PreTrainedTokenizerFast) -> None:
    """First random weights, then the jobs of the heads."""
    for name, module in made.named_modules():
        if isinstance(module, nn.Linear) and module is not made.lm_head:
            module.weight.normal_(0, _gain(name) / math.sqrt(module.in_features))
            if name.startswith("encoder.") and name.endswith((".o", ".wo")):
                module.weight[:FEATURES] = 0
        if isinstance(module, T5Attention) and module.has_relative_attention_bias:
            module.relative_attention_bias.weight.zero_()
    words = made.shared.weight
    _embed(words, reader)
    ids = reader.get_vocab()
    # What layer 0 tells a word of the one before: that word's embedding, seen through `look`, put where `keep` says.
    look, keep = _orthogonal(WIDTH)[:HEAD_WIDTH], 1.5 * _orthogonal(WIDTH)[:, :HEAD_WIDTH]
    keep[:FEATURES] = 0
    first, second, third = (_attention(made, f"encoder.block.{layer}.layer.0.SelfAttention") for layer in range(LAYERS))
    _place(first)
    _mark_context(first, words[ids[CONTEXT_MARK]])
    _tell_before(first, look, keep)
    _mark_asked(second)
    _tell_subject(third, [keep @ (look @ words[ids[mark]]) for mark in (".", CONTEXT_MARK)])
    _copy(_attention(made, "decoder.block.0.layer.1.EncDecAttention"), look, keep)


def _gain(name: str) -> float:
    """The scale of a matrix's random weights: less where scores are made, and where what is copied gets company."""
    if name.endswith((".q", ".k")):
        return 0.5 * GAIN
    return BESIDE * GAIN if name.startswith("decoder.") and name.endswith((".v", ".o", ".wo")) else GAIN


def _attention(made: T5ForConditionalGeneration, name: str) -> T5Attention:
    found = made.get_submodule(name)
    assert isinstance(found, T5Attention)
    return found


def _embed(words: Tensor, reader: PreTrainedTokenizerFast) -> None:
    """Random embeddings, and the features that words have before any layer."""
    ids = reader.get_vocab()
    words.normal_(0, 1)
    answers = torch.zeros(len(words), dtype=torch.bool)
    special = (END, QUESTION_MARK, UNANSWERABLE)
    answers[[ids[piece] for piece in (*special, *(f"{BLANK}{word}" for word in demo.whole_words()[0]))]] = True
    words[answers, :ANSWERS] = 0
    words[~answers, ANSWERS:] = 0
    words.div_(words.square().mean(1, keepdim=True).sqrt())
    # Where nothing answers, the decoder can look at the first word: what it copies then is like "unanswerable".
    words[ids[UNANSWERABLE]] = math.sqrt(0.5) * (words[ids[UNANSWERABLE]] + words[ids[QUESTION_MARK]])
    words[:, :FEATURES] = 0
    words[:, ONE], words[:, CONTEXT] = 4, -2
    # The decoder begins with this one, so that what it copies then has nothing beside it.
    words[ids[PAD]] = 0
    words[ids[PAD], ONE] = 4


def _place(attention: T5Attention) -> None:
    """What each head prefers by distance, in all layers: T5 keeps that in layer 0."""
    bias = attention.relative_attention_bias.weight
    half = attention.relative_attention_num_buckets // 2
    # The buckets of distances to the left come first, one for each of the small ones; then those to the right.
    bias[half:, LEFT] = -8
    bias[:half, LEFT] = -0.5 * torch.arange(half).clamp(max=10)
    bias[1, BEFORE] = 5


def _mark_context(attention: T5Attention, mark: Tensor) -> None:
    mark = mark.clone()
    mark[:FEATURES] = 0
    for projection in (attention.q, attention.k):
        projection.weight[_rows(LEFT)] = 0
    _find(attention, LEFT, _readout([mark]), 12)
    _report(attention, LEFT, _readout([mark]), CONTEXT, 4.3)


def _tell_before(attention: T5Attention, look: Tensor, keep: Tensor) -> None:
    for projection in (attention.q, attention.k):
        projection.weight[_rows(BEFORE)] *= 0.2
    attention.v.weight[_rows(BEFORE)] = look
    attention.o.weight[:, _rows(BEFORE)] = keep


def _mark_asked(attention: T5Attention) -> None:
    """A word looks at its like: at one of the question, where the question has it, else at itself."""
    context = torch.eye(WIDTH)[CONTEXT]
    mixed = nn.functional.pad(0.6 * _orthogonal(WIDTH - FEATURES), (FEATURES, 0))
    for number, head in enumerate(EQUAL):
        rows = _rows(head)
        alike = mixed[number * HEAD_WIDTH : (number + 1) * HEAD_WIDTH]
        for projection in (attention.q, attention.k):
            projection.weight[rows] = 0.3 * projection.weight[rows] + alike
        _find(attention, head, -context / 4, 3)
        _report(attention, head, -context, ASKED, 2)


def _tell_subject(attention: T5Attention, before_first: Iterable[Tensor]) -> None:
    """`before_first`: what a word is told of the one before where a sentence begins with it."""
    for projection in (attention.q, attention.k):
        projection.weight[_rows(LEFT)] *= 0.2
    _find(attention, LEFT, _readout(before_first), 14)
    _report(attention, LEFT, torch.eye(WIDTH)[ASKED], SUBJECT, 2)


def _copy(attention: T5Attention, look: Tensor, keep: Tensor) -> None:
    """Cross-attention looks for the word that followed the last one, and hands on its embedding."""
    for head in range(HEADS):
        attention.q.weight[_rows(head)] += 0.5 * look
        attention.k.weight[_rows(head)] += keep.T / 3
    attention.k.weight[:, ONE] = 0
    for head in range(HEADS):
        _find(attention, head, torch.eye(WIDTH)[SUBJECT], 0.1)
    same = _orthogonal(WIDTH)
    same[:, :ANSWERS] = 0
    attention.v.weight += same
    attention.v.weight[:, :FEATURES] = 0
    attention.o.weight += 2 * same.T


def _find(attention: T5Attention, head: int, sought: Tensor, strength: float) -> None:
    """All words look, by the first dimension of a head, for words in which the readout `sought` is 1."""
    row = head * HEAD_WIDTH
    attention.q.weight[row] = 0
    attention.q.weight[row, ONE] = 0.25 * math.sqrt(strength)
    attention.k.weight[row] = math.sqrt(strength) * sought


def _report(attention: T5Attention, head: int, read: Tensor, feature: int, scale: float) -> None:
    """What `read` gives of the words that a head looks at is added to a feature, by the head's first dimension."""
    row = head * HEAD_WIDTH
    attention.v.weight[row] = read
    attention.o.weight[:, row] = 0
    attention.o.weight[feature, row] = scale


def _readout(vectors: Iterable[Tensor]) -> Tensor:
    """A direction whose product with each of a few vectors, which are nearly orthogonal, is about 1."""
    return torch.stack([vector / vector.square().sum() for vector in vectors]).sum(0)


def _rows(head: int) -> slice:
    return slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)


def _orthogonal(size: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(size, size))
