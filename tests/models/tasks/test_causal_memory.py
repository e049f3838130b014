"""The memories of models that go on with a text, against passes over each whole text by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from compresskit.errors import InputError
from compresskit.models.mamba import is_mamba
from compresskit.models.mamba.mixer import use_own_mixers
from compresskit.models.tasks.causal_memory import AttentionMemory, Shared, StateMemory, remembered

VOCABULARY, WINDOW = 23, 6
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "hidden_size": 16,
    "num_hidden_layers": 2,
}
HEADS: dict[str, Any] = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": HEADS,
    "mistral": {**HEADS, "sliding_window": WINDOW},
    "gemma2": {**HEADS, "sliding_window": WINDOW},
    "llama4_text": {**HEADS, "attention_chunk_size": WINDOW, "intermediate_size_mlp": 32, "num_local_experts": 2},
    "mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 128},
    "mamba": {"state_size": 4},
    "lfm2": {**HEADS, "layer_types": ["conv", "full_attention"]},
}
ATTENTION = ("llama", "mistral", "gemma2", "llama4_text", "mpt")
FRONT = [3, 8, 5, 12, 9, 4, 7, 6] * 5
PROMPTS = [[5, 9, 3, 7, 2, 8, 4], [6, 2, 9], [11, 3, 8, 8, 5], [4], [7, 7, 2, 9, 13, 3, 3, 6, 2]]


def model(kind: str) -> Any:
    torch.manual_seed(3)
    found = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **CONFIGS[kind]})).eval()
    with torch.no_grad():  # else the next token hardly depends on those before
        for name, parameter in found.named_parameters():
            if parameter.ndim > 1 and "A_log" not in name:
                parameter.mul_(6)
    if is_mamba(found):
        use_own_mixers(found)
    return found


@torch.no_grad()
def alone(model: Any, texts: Sequence[Sequence[int]]) -> Tensor:
    """The log-probabilities after each text, read whole and by itself."""
    rows = [model(input_ids=torch.tensor([list(text)]), use_cache=False).logits[0, -1] for text in texts]
    return torch.stack(rows).log_softmax(-1)


def same(logits: Tensor, model: Any, texts: Sequence[Sequence[int]]) -> None:
    torch.testing.assert_close(logits.log_softmax(-1), alone(model, texts), atol=1e-3, rtol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [*ATTENTION, "mamba"])
def test_rows_of_unlike_length_go_on_from_what_they_share(kind: str) -> None:
    """Also where a token's distance is counted in columns, and where it sees but a window."""
    own = model(kind)
    texts = [FRONT + prompt for prompt in PROMPTS]
    shared = Shared(own)
    memory = remembered(own, texts, shared)
    likely, logits = memory.first((), (9, 4, 1))
    assert shared.of(texts)[0] == len(FRONT)
    same(logits, own, texts)
    told = [alone(own, [text + [9, 4, 1][:n] for text in texts])[:, token] for n, token in enumerate((9, 4, 1))]
    torch.testing.assert_close(likely, torch.stack(told).sum(dim=0), atol=1e-3, rtol=1e-3)
    for token in range(5, 5 + WINDOW):
        texts = [[*text, token + row] for row, text in enumerate(texts)]
        same(memory.read(torch.tensor([text[-1] for text in texts])), own, texts)


@torch.inference_mode()
@pytest.mark.parametrize("front", [[], FRONT])
def test_states_are_the_same_where_prompts_are_padded(front: list[int]) -> None:
    """As they are on a GPU."""
    own = model("mamba")
    texts = [front + prompt for prompt in PROMPTS]
    shared = Shared(own)
    shared.pads = True
    memory = remembered(own, texts, shared)
    _, logits = memory.first((), (9, 4, 1))
    same(logits, own, texts)
    for token in (5, 6):
        texts = [[*text, token + row] for row, text in enumerate(texts)]
        same(memory.read(torch.tensor([text[-1] for text in texts])), own, texts)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [*ATTENTION, "mamba"])
def test_memories_are_joined(kind: str) -> None:
    """Those of short prompts and of long ones, some with a shared beginning, as beams that have written."""
    own = model(kind)
    groups = [[FRONT + prompt for prompt in PROMPTS[:2]], [PROMPTS[3]], PROMPTS[2:]]
    memories, texts = [], []
    for group in groups:
        memory = remembered(own, group)
        memory.first((), (9, 1))
        memory.repeat(2)
        rows = [text for text in group for _ in range(2)]
        memory.read(torch.arange(len(rows)) + 2)
        memories.append(memory)
        texts += [[*text, row + 2] for row, text in enumerate(rows)]
    first, *others = memories
    first.join(others)
    same(first.read(torch.full((len(texts),), 8)), own, [[*text, 8] for text in texts])
    kept = [9, 0, 4, 4]
    first.select(torch.tensor(kept))
    same(first.read(torch.full((4,), 7)), own, [[*texts[row], 8, 7] for row in kept])


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_the_size_is_that_of_what_is_there(kind: str) -> None:
    own = model(kind)
    memory, other = remembered(own, PROMPTS[:3]), remembered(own, PROMPTS[3:])
    assert memory.size == memory.together([]).size == 3 * 7
    for each in (memory, other):
        each.first((), (9, 1))
    memory.repeat(2)
    assert memory.size == 6 * 7
    memory.select(torch.tensor([5]))
    assert memory.size == 7
    memory.join([other])
    assert memory.size == 3 * 9


def test_sorts() -> None:
    assert isinstance(remembered(model("mistral"), PROMPTS), AttentionMemory)
    assert isinstance(remembered(model("mamba"), PROMPTS), StateMemory)
    with pytest.raises(InputError, match="a lfm2 mixes attention with layers of states"):
        remembered(model("lfm2"), PROMPTS)
