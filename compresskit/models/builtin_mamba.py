"""The tokenizer and the first weights of `demo/mamba`, a tiny Mamba that learns to go on with the demo set's answers.

It reads the context first, so what it will be asked has to be in its states by then. From random weights so small a
Mamba does not find within minutes how to put it there. So some of its channels start with a job; all else is random,
and everything learns. A channel keeps its state while its step size dt is near 0; where dt is large, it forgets that
and takes in the word at hand (selection: Gu & Dao 2023, arXiv 2312.00752). The jobs:

- Block 0 holds the last name that stands for a subject, and the last words that tell what is said of it. It hands both
  on as a key at words that answers have, and where the answer begins.
- Block 1 is an associative memory, the state of a linear attention (Katharopoulos et al. 2020, arXiv 2006.16236). What
  answers are made of, and the word after it, is written under the key of block 0 and that of the word before. Read is
  by the key of block 0 and that of the word at hand: where the answer begins, what is kept of that subject and that
  relation; after a word, what followed it.

What is left to be learned is how much each of the keys has to match, and when there is no answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import MambaConfig, MambaForCausalLM, PreTrainedTokenizerFast
from transformers.models.mamba.modeling_mamba import MambaMixer

from compresskit.data import demo, demo_language
from compresskit.models.builtin_words import BLANK, END, word_tokenizer
from compresskit.models.prompt import LINES

CONTEXT_MARK, QUESTION_MARK, ANSWER_MARK = (part.rstrip(" ") for part in LINES.frame)
UNANSWERABLE = tuple(f"{BLANK}{word}" for word in LINES.unanswerable.split())

# A block has as many channels as the model is wide, and its step sizes go through `RANK` numbers.
LAYERS, WIDTH, RANK = 2, 128, 8
# Dimensions with a meaning of their own. `ONE` is the same for all words; `NAME` is above 0 for names and below it for
# others, `OPEN` likewise for words that answers have and for the mark of an answer; above 0 and else 0 is `ANSWER` for
# words that answers have, `LEADS` for words after which a name is an answer, `TELLS` for words that tell a relation.
ONE, NAME, OPEN, ANSWER, LEADS, TELLS = range(6)
# Keys have so many dimensions: those of block 0, and those of words. Each has its own part of the states.
FACT, WORD = 12, 12
STATES = FACT + WORD
# Where block 0 leaves its key, and what relation a word tells. Words that no answer has live in the dimensions after
# those, the others in `ANSWERS`, which alone are written into the memory.
KEY, RELATION = slice(6, 6 + FACT), slice(6 + FACT, 6 + 2 * FACT)
ANSWERS = slice(WIDTH - 54, WIDTH)
OTHERS = slice(RELATION.stop, ANSWERS.start)
# Of the four words that a convolution sees, which come in order.
NOW, BEFORE, SINCE, NEAR = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 1.0, -1.0), (0.1, 0.1, 0.1, 1.0)
NAMES = (
    demo_language.WOMEN,
    demo_language.MEN,
    demo_language.SURNAMES,
    demo_language.TOWNS,
    demo_language.TOWN_PREFIXES,
)
LEADING = ("by", "has", "chose", "lives", "house", "flat")
# Bias of a step size that is nearly 0.
SHUT = -8.0
# Scale of the random weights, as for `demo/bert`, and of those of what is handed on.
GAIN, BESIDE = 0.5, 0.1


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the demo set's words, those of the prompt among them; it adds no token to a text."""
    marks = (f"{BLANK}{CONTEXT_MARK}", f"\n{CONTEXT_MARK}", QUESTION_MARK, ANSWER_MARK, *UNANSWERABLE)
    return word_tokenizer(marks, "\n", ends=False)


def model(reader: PreTrainedTokenizerFast) -> MambaForCausalLM:
    """The model for that tokenizer, with its first weights, by torch's generator."""
    config = MambaConfig(
        vocab_size=len(reader),
        hidden_size=WIDTH,
        expand=1,
        state_size=STATES,
        num_hidden_layers=LAYERS,
        time_step_rank=RANK,
        pad_token_id=reader.pad_token_id,
        bos_token_id=None,
        eos_token_id=reader.eos_token_id,
    )
    made = MambaForCausalLM(config)
    with torch.no_grad():
        _embed(made.backbone.embeddings.weight, reader.get_vocab())
        made.backbone.norm_f.weight.fill_(0.15)  # makes it less sure of what it writes
        mixers = [module for module in made.modules() if isinstance(module, MambaMixer)]
        first, second = map(_Block, mixers)
        _hold(first)
        _recall(second)
    return made


# Words


def _embed(words: Tensor, ids: Mapping[str, int]) -> None:
    """Random embeddings, and the features that words have before any block."""
    words.normal_(0, 1)
    answers, end, mark = _ids(ids, demo.whole_words()[0]), ids[END], ids[ANSWER_MARK]
    others = torch.ones(len(words), dtype=torch.bool)
    others[[*answers, end, *(ids[piece] for piece in UNANSWERABLE)]] = False
    words[others, ANSWERS] = 0
    words[~others, : ANSWERS.start] = 0
    words[:, : OTHERS.start] = 0
    _normalize(words)
    # What follows an answer ends it. Answers begin after such a word too, in the context and after the mark.
    words[others, ANSWERS] = 0.6 * words[end, ANSWERS]
    words[mark, ANSWERS] += 0.3 * words[ids[UNANSWERABLE[0]], ANSWERS]
    words[:, [ONE, NAME, OPEN]] = torch.tensor([3.0, -1.0, -2.0])
    words[_ids(ids, (name for names in NAMES for name in names)), NAME] = 1.5
    words[answers, ANSWER] = 2
    words[[*answers, mark], OPEN] = 2
    words[[*_ids(ids, LEADING), mark], LEADS] = 4
    codes = _orthogonal(len(demo_language.PERSON_RELATIONS + demo_language.TOWN_RELATIONS), FACT)
    for word, relations in demo.telling_words().items():
        words[ids[f"{BLANK}{word}"], TELLS] = 2
        words[ids[f"{BLANK}{word}"], RELATION] = 3 * codes[relations].mean(0)
    _normalize(words)


def _ids(ids: Mapping[str, int], words: Iterable[str]) -> list[int]:
    return [ids[f"{BLANK}{word}"] for word in words]


def _normalize(words: Tensor) -> None:
    words.div_(words.square().mean(1, keepdim=True).sqrt())


# Blocks


class _Block:
    """A block whose channels are given jobs one after the other; those that get none stay random."""

    def __init__(self, mixer: MambaMixer) -> None:
        self.mixer = mixer
        self.used = 0
        for layer in (mixer.in_proj, mixer.x_proj, mixer.out_proj):
            layer.weight.normal_(0, (GAIN if layer is mixer.in_proj else BESIDE) / math.sqrt(layer.in_features))
        mixer.out_proj.weight[: OTHERS.start] = 0
        mixer.dt_proj.weight.normal_(0, BESIDE)
        # The rows of x_proj: what step sizes are made of, and where the states are written and read.
        self.steps, self.writes, self.reads = torch.split(mixer.x_proj.weight, [RANK, STATES, STATES])

    def channels(self, heard: Tensor, taps: Sequence[float] = NOW, gate: Mapping[int, float] | None = None) -> slice:
        """New channels, each of which hears a readout (a row of `heard`) of the last four words, weighted by `taps`.

        They hand nothing on yet, and write nothing. The gate is a readout too; open where it is None.
        """
        mixer, new = self.mixer, slice(self.used, self.used + len(heard))
        self.used = new.stop
        mixer.in_proj.weight[new] = heard
        mixer.in_proj.weight[WIDTH + new.start : WIDTH + new.stop] = _readout(gate or {ONE: 1})
        mixer.conv1d.weight[new, 0] = torch.tensor(taps)
        assert mixer.conv1d.bias is not None
        mixer.conv1d.bias[new] = 0
        mixer.x_proj.weight[:, new] = 0
        mixer.out_proj.weight[:, new] = 0
        self.step(new, SHUT)
        return new

    def pair(self, heard: Tensor, taps: Sequence[float] = NOW, gate: Mapping[int, float] | None = None) -> list[slice]:
        """Channels that hear it, and as many that hear the contrary: silu(v) - silu(-v) is v."""
        return [self.channels(sign * heard, taps, gate) for sign in (1, -1)]

    def step(self, channels: slice, bias: float, by: int = 0, strength: float = 0) -> None:
        """dt is softplus(bias + strength · the step's part `by`)."""
        self.mixer.dt_proj.bias[channels] = bias
        self.mixer.dt_proj.weight[channels] = 0
        self.mixer.dt_proj.weight[channels, by] = strength


def _hold(block: _Block) -> None:
    """Block 0: the last subject and the last relation, in the states' first dimension."""
    mixer = block.mixer
    code = torch.zeros(FACT, WIDTH)
    code[:, ANSWERS] = _orthogonal(FACT, ANSWERS.stop - ANSWERS.start)
    subject = block.pair(code / 4, gate={OPEN: 3})
    relation = block.pair(_part(RELATION), gate={OPEN: 3})
    # A name is a subject where no leading word is near.
    one, named, told = (
        block.channels(_readout(heard), taps)
        for heard, taps in (({ONE: 1}, NOW), ({NAME: 3, LEADS: -15}, NEAR), ({TELLS: 2}, NOW))
    )
    block.steps[:2] = 0
    block.steps[0, named] = 1
    block.steps[1, told] = 1
    for rows in (block.writes, block.reads):
        rows[0] = 0
        rows[0, one] = 0.6
    for channels, by, strength in ((subject, 0, 4), (relation, 1, 3)):
        for each in channels:
            block.step(each, SHUT, by, strength)
            mixer.D[each] = 0
    _pass_on(mixer, subject, KEY, 0.04)
    _pass_on(mixer, relation, KEY, 0.08)
    # A subject is no answer.
    mixer.out_proj.weight[ANSWER, named] = -0.22


def _recall(block: _Block) -> None:
    """Block 1: all that was written stays."""
    mixer = block.mixer
    width = ANSWERS.stop - ANSWERS.start
    code = torch.zeros(WORD, WIDTH)
    code[:, ANSWERS] = _orthogonal(WORD, width)
    value = block.channels(_part(ANSWERS) / 4)
    fact, before, word = block.pair(_part(KEY)), block.pair(code, BEFORE), block.pair(code)
    now, since = (block.channels(_readout({ANSWER: 6}), taps) for taps in (NOW, SINCE))
    block.steps[0, now] = 1
    block.steps[0, since] = 1
    block.step(value, -4, 0, 0.5)
    mixer.A_log[value] = -6
    for rows, key, begin, strength in (
        (block.writes, fact, 0, 0.2),
        (block.reads, fact, 0, 0.3),
        (block.writes, before, FACT, 0.9),
        (block.reads, word, FACT, 0.3),
    ):
        for channels, sign in zip(key, (1, -1), strict=True):
            count = channels.stop - channels.start
            rows[begin : begin + count, channels] = sign * strength * torch.eye(count)
    # What is read takes the place of the word at hand.
    mixer.D[value] = -1
    mixer.out_proj.weight[ANSWERS, value] = 4 * torch.eye(width)


def _pass_on(mixer: MambaMixer, pair: Sequence[slice], to: slice, strength: float) -> None:
    for channels, sign in zip(pair, (1, -1), strict=True):
        mixer.out_proj.weight[to, channels] = sign * strength * torch.eye(to.stop - to.start)


def _readout(features: Mapping[int, float]) -> Tensor:
    """One row, (1, width), that reads these features."""
    row = torch.zeros(1, WIDTH)
    for feature, strength in features.items():
        row[0, feature] = strength
    return row


def _part(dimensions: slice) -> Tensor:
    """A row, (width,), for each of some dimensions, that reads it."""
    return torch.eye(WIDTH)[dimensions]


def _orthogonal(rows: int, columns: int) -> Tensor:
    """Orthonormal rows, of which there are no more than columns; random."""
    return nn.init.orthogonal_(torch.empty(rows, columns))
