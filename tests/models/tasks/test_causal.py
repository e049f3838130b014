"""Models that go on with a text: what they learn from, and the answers that they write, against plain passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from compresskit.methods.teaching import cross_entropy
from compresskit.models.mamba.mixer import use_own_mixers
from compresskit.models.task import IGNORED
from compresskit.models.tasks import causal_memory
from compresskit.models.tasks.causal import CAUSAL, CausalCollator
from compresskit.models.tasks.causal_memory import Shared, remembered
from compresskit.models.tasks.decoding import Decoder
from compresskit.models.tasks.hypotheses import Search, Target

VOCABULARY, END = 23, 1
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "eos_token_id": END}
ATTENTION: dict[str, Any] = {**SMALL, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 128}
MAMBA2: dict[str, Any] = {**SMALL, "num_heads": 4, "head_dim": 8, "n_groups": 1, "state_size": 4, "chunk_size": 4}


def model(kind: str) -> Any:
    made: dict[str, Any] = {
        "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**ATTENTION)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**ATTENTION, num_key_value_heads=1)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2)),
        "mamba": lambda: MambaForCausalLM(MambaConfig(**SMALL, state_size=4)),
        "mamba2": lambda: Mamba2ForCausalLM(Mamba2Config(**MAMBA2)),
        "falcon": lambda: FalconMambaForCausalLM(FalconMambaConfig(**SMALL, state_size=4)),
    }
    torch.manual_seed(3)
    found = made[kind]().eval()
    with torch.no_grad():  # else all answers are alike
        for parameter in found.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    use_own_mixers(found)
    return found


KINDS = ("neox", "llama", "gpt2", "mamba", "mamba2", "falcon")
PROMPTS = [[5, 9, 3, 7, 2, 8, 4], [6, 2, 9], [11, 3, 8, 8, 5], [4, 12, 3], [7, 7, 2, 9, 13, 3, 3, 6, 2]]


@torch.no_grad()
def log_probabilities(model: Any, prompt: list[int], text: tuple[int, ...]) -> Tensor:
    """Of each token after each prefix of a text, (text + 1, vocabulary), by one pass over all of it."""
    logits = model(input_ids=torch.tensor([[*prompt, *text]]), use_cache=False).logits[0]
    found: Tensor = logits.float().log_softmax(-1)[len(prompt) - 1 :]
    return found


def likely(model: Any, prompt: list[int], text: tuple[int, ...]) -> float:
    table = log_probabilities(model, prompt, text)
    return sum(float(table[number, token]) for number, token in enumerate(text))


def naive(model: Any, prompt: list[int], null: tuple[int, ...], most: int) -> list[int]:
    """The likeliest next token, with the probability of the unanswerable target taken from those that lead to it."""
    excluded, total = math.exp(likely(model, prompt, null)), 0.0
    tokens: list[int] = []
    while len(tokens) < most:
        step = log_probabilities(model, prompt, tuple(tokens))[-1]
        ranks = (total + step).double().exp()
        if tuple(tokens) == null[: len(tokens)] and len(tokens) < len(null):
            ranks[null[len(tokens)]] -= excluded
            if len(tokens) == len(null) - 1:
                ranks[null[-1]] = 0.0
        if not tokens:
            ranks[END] = 0.0
        token = int(ranks.argmax())
        total += float(step[token])
        if token == END:
            break
        tokens.append(token)
    return tokens


def answered(model: Any, target: Target, how: Search, groups: Any) -> dict[int, Any]:
    decoder = Decoder(target, how)
    for rows in groups:
        decoder.add(remembered(model, [PROMPTS[row] for row in rows]), rows)
    return decoder.finish()


@pytest.mark.parametrize("groups", [[[0, 1, 2, 3, 4]], [[3], [0, 4], [1, 2]]], ids=["together", "in batches"])
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_unlike_length_are_gone_on_with(kind: str, groups: Any) -> None:
    """Greedy answers and null scores as each prompt has them alone, without any memory."""
    own, null = model(kind), (9, 4, END)
    found = answered(own, Target((), null, END), Search(1, 1.0, 6), groups)
    for row, prompt in enumerate(PROMPTS):
        score, (best,) = found[row]
        assert score == pytest.approx(likely(own, prompt, null), abs=2e-4)
        expected = naive(own, prompt, null, 6)
        assert list(best.tokens) == expected
        ended = (END,) if len(expected) < 6 else ()
        assert best.score == pytest.approx(likely(own, prompt, (*expected, *ended)), abs=2e-4)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("kind", ["llama", "mamba", "mamba2"])
def test_what_prompts_share_is_read_once(kind: str, beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers and scores as without, with fewer tokens read; another beginning is read anew."""
    own = model(kind)
    front = [3, 8, 5, 12, 9, 4, 7, 6] * 5
    prompts = [front + prompt for prompt in PROMPTS]
    target, how = Target((), (9, 4, END), END), Search(beams, 1.0, 4)
    read: list[int] = []
    own.register_forward_pre_hook(lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True)
    found, tokens = [], []
    for least in (causal_memory.LEAST, 10**9):
        monkeypatch.setattr(causal_memory, "LEAST", least)
        read.clear()
        shared = Shared(own)
        decoder = Decoder(target, how)
        for rows in ([0, 1, 2], [3, 4]):
            decoder.add(remembered(own, [prompts[row] for row in rows], shared), rows)
        found.append(decoder.finish())
        tokens.append(sum(read))
    assert tokens[0] < tokens[1]
    for row in range(5):
        assert found[0][row][0] == pytest.approx(found[1][row][0], abs=2e-4)
        assert found[0][row][0] == pytest.approx(likely(own, prompts[row], (9, 4, END)), abs=5e-4)
        assert [each.tokens for each in found[0][row][1]] == [each.tokens for each in found[1][row][1]]
    monkeypatch.undo()
    again = Shared(own)
    assert again.of(prompts)[0] == len(front)
    assert again.of([[1, *prompt] for prompt in prompts])[0] == len(front) + 1
    assert again.of([[2, 3], [2, 4]])[0] == 0


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_beams_find_the_best_of_all_texts(kind: str) -> None:
    """Every text of at most two tokens is enumerated."""
    own, null = model(kind), (9, END)
    found = answered(own, Target((), null, END), Search(VOCABULARY**2 + 30, 0.6, 3), [[0, 1, 4]])
    texts = [text for n in (1, 2) for text in itertools.product(range(VOCABULARY), repeat=n) if END not in text]
    for row in (0, 1, 4):
        scores = {text: likely(own, PROMPTS[row], (*text, END)) for text in texts if (*text, END) != null}
        best = max(scores, key=lambda text: scores[text] / (len(text) + 1) ** 0.6)
        ended = [each for each in found[row][1] if len(each.tokens) < 3]
        assert tuple(ended[0].tokens) == best
        assert ended[0].score == pytest.approx(scores[best], abs=2e-4)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_tokens_that_stand_for_no_text_are_never_written(kind: str, beams: int) -> None:
    """Though the model would rather write them than all others: as a model that cannot write them."""
    own, unknown = model(kind), torch.tensor([20, 22])
    found = []
    for bias, known in ((50.0, unknown), (float("-inf"), None)):
        hook = own.lm_head.register_forward_hook(
            lambda _, __, logits, bias=bias: logits.index_add(-1, unknown, torch.full((*logits.shape[:-1], 2), bias))
        )
        target = Target((), (9, 4, END), END, unknown=known)
        found.append(answered(own, target, Search(beams, 1.0, 6), [[0, 1, 2, 3, 4]]))
        hook.remove()
    for row, (null, texts) in found[0].items():
        expected_null, expected = found[1][row]
        assert null == pytest.approx(expected_null, abs=1e-4)
        assert [each.tokens for each in texts] == [each.tokens for each in expected]
        assert [each.score for each in texts] == pytest.approx([each.score for each in expected], abs=1e-4)
        assert not {20, 22} & {token for each in texts for token in each.tokens}


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_the_loss_is_on_the_answer_alone(kind: str) -> None:
    """Labels and logits of the tokens of targets, as a pass over each sequence has them."""
    own = model(kind)
    targets = [[8, 3, END], [2, END], [4, 4, 5, END]]
    features = [{"input_ids": PROMPTS[row], "labels": target, "index": row} for row, target in enumerate(targets)]
    batch = CausalCollator(pad_id=0, multiple=4)(features)
    assert batch["input_ids"].shape == batch["labels"].shape
    assert batch["input_ids"].shape[1] % 4 == 0
    assert int(batch["attention_mask"].diff(dim=1).max()) <= 0  # padding is on the right alone
    assert int((batch["labels"] != IGNORED).sum()) == sum(map(len, targets))
    written: list[int] = []
    own.get_output_embeddings().register_forward_hook(lambda _, args, out: written.append(out.shape[:-1].numel()))
    choices = CAUSAL.choices(own, batch)
    assert written == [sum(map(len, targets))]  # the vocabulary is written for no other token
    assert choices.labels is not None
    assert choices.labels.tolist() == [token for target in targets for token in target]
    rows = [log_probabilities(own, PROMPTS[row], tuple(target))[:-1] for row, target in enumerate(targets)]
    torch.testing.assert_close(choices.logits.log_softmax(-1), torch.cat(rows), atol=2e-4, rtol=1e-4)


def learned(own: Any, features: Sequence[Any], *, pad_id: int, multiple: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch as in training, and what it asks of each parameter."""
    own.train().zero_grad()
    choices = CAUSAL.choices(own, CausalCollator(pad_id, multiple)(features))
    loss = cross_entropy(choices)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in own.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "mamba", "falcon", "mamba2"])
def test_no_example_of_a_batch_sees_another_or_its_padding(kind: str) -> None:
    """Loss and gradients are the mean of those of each example alone and without padding, by its tokens.

    In fp64, where nothing else could make a difference.
    """
    own = model(kind).double()
    use_own_mixers(own)
    targets = [[8, 3, END], [2, END], [4, 4, 5, 11, 9, END], [7, END], [3, END]]
    features = [{"input_ids": PROMPTS[row], "labels": target, "index": row} for row, target in enumerate(targets)]
    loss, grads = learned(own, features, pad_id=0, multiple=8)
    total = sum(map(len, targets))
    mean, sums = torch.tensor(0.0), {name: torch.zeros_like(grad) for name, grad in grads.items()}
    for feature, target in zip(features, targets, strict=True):
        each, those = learned(own, [feature], pad_id=0, multiple=1)
        mean = mean + each * len(target) / total
        sums = {name: sums[name] + grad * len(target) / total for name, grad in those.items()}
    torch.testing.assert_close(loss, mean, rtol=1e-5, atol=1e-6)
    assert grads.keys() == dict(own.named_parameters()).keys()
    for name, grad in grads.items():
        assert bool(grad.any()), name
        torch.testing.assert_close(grad, sums[name], rtol=1e-5, atol=1e-6, msg=name)
    other, those = learned(own, features, pad_id=17, multiple=32)
    torch.testing.assert_close(other, loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(those, grads, rtol=1e-5, atol=1e-6)
