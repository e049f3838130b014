"""What transformers and PEFT as shipped do wrong with a Mamba. Where one of these fails, the trap is gone, and what
docs/concepts/mamba.md says of it is too."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraModel
from torch import Tensor
from transformers.models.mamba import modeling_mamba

from compresskit.models.mamba import mixer
from compresskit.models.mamba.mixer import use_own_mixers
from docs.concepts.figures.block import LAYERS, PATHS
from tests.models.mamba import fused
from tests.models.mamba.small import FAMILIES, ids, small


@torch.no_grad()
def logits(model: Any, tokens: Tensor, **options: Any) -> Tensor:
    found: Tensor = model(tokens, **options).logits
    return found


@torch.no_grad()
def read(model: Any, tokens: Tensor, **options: Any) -> Any:
    """The cache after some tokens."""
    return model(tokens, use_cache=True, **options).cache_params


def padded(tokens: Tensor, at: int, count: int = 5) -> tuple[Tensor, Tensor]:
    """Padding put into tokens before the one at a place, and the attention mask of it all."""
    rows = len(tokens)
    mask = torch.ones_like(tokens)
    left, right = slice(None, at), slice(at, None)
    parts = [(each[:, left], each.new_zeros(rows, count), each[:, right]) for each in (tokens, mask)]
    with_padding, with_mask = (torch.cat(each, dim=1) for each in parts)
    return with_padding, with_mask


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_forgets_the_state_where_several_tokens_follow(family: str) -> None:
    """Mamba-2 does not, since transformers#46084."""
    model, tokens = small(family), ids(2, 31)
    rest = logits(model, tokens[:, 20:], cache_params=read(model, tokens[:, :20]), use_cache=True)
    assert float((rest - logits(model, tokens, use_cache=False)[:, 20:]).abs().max()) > 0.01


@pytest.mark.parametrize(("place", "own"), [("middle", False), ("middle", True), ("right", False)])
def test_padding_after_the_first_token_changes_the_state(place: str, own: bool) -> None:
    """Under an attention mask; the convolution sees it between tokens on our scan too."""
    model, tokens, after = small(), ids(2, 20), ids(2, 1)
    if own:
        use_own_mixers(model)
    wanted = logits(model, after, cache_params=read(model, tokens), use_cache=True)
    with_padding, mask = padded(tokens, 12 if place == "middle" else 20)
    cache = read(model, with_padding, attention_mask=mask)
    found = logits(model, after, cache_params=cache, use_cache=True)
    assert float((found - wanted).abs().max()) > 1e-3


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_on_the_right_our_mixers_keep_the_state(family: str, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing and from a state before, in rows of fewer tokens than the convolution is wide too."""
    if kernels:
        monkeypatch.setattr(mixer, "kernels_for", lambda _: fused.KERNELS)
    model = small(family)
    use_own_mixers(model)
    before, after = ids(3, 5), ids(3, 1)
    rows = [ids(1, length) for length in (1, 2, 9)]
    given = torch.cat([torch.nn.functional.pad(row, (0, 12 - row.shape[1])) for row in rows])
    mask = torch.stack([(torch.arange(12) < row.shape[1]).long() for row in rows])
    for known in (before[:, :0], before[:, :1], before):
        cache = read(model, known) if known.shape[1] else read(model, given, attention_mask=mask)
        if known.shape[1]:
            model(given, attention_mask=mask, cache_params=cache, use_cache=True)
        found = logits(model, after, cache_params=cache, use_cache=True)
        for row, own in enumerate(rows):
            whole = torch.cat((known[row : row + 1], own, after[row : row + 1]), dim=1)
            torch.testing.assert_close(found[row, -1], logits(model, whole)[0, -1], rtol=1e-4, atol=1e-4)


def test_padding_on_the_left_leaves_the_state_as_it_is() -> None:
    """A state of zeros decays to zeros."""
    model, tokens, after = small(), ids(2, 20), ids(2, 1)
    use_own_mixers(model)
    with_padding, mask = padded(tokens, 0)
    found, wanted = read(model, with_padding, attention_mask=mask), read(model, tokens)
    pair = [logits(model, after, cache_params=each, use_cache=True) for each in (found, wanted)]
    torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-5)


def test_the_fused_path_is_exact_with_padding_on_the_right_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is not told of the mask, and the convolution's bias makes something out of padding."""
    monkeypatch.setattr(modeling_mamba, "mamba_inner_fn", fused.mamba_inner_fn)
    model, tokens = small().train(), ids(2, 20)
    wanted, off = logits(model, tokens), []
    for at, real in ((20, slice(20)), (0, slice(5, None))):
        with_padding, mask = padded(tokens, at)
        off.append(float((logits(model, with_padding, attention_mask=mask)[:, real] - wanted).abs().max()))
    assert off[0] < 1e-5
    assert off[1] > 1e-3


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("path", ["unfused", "fused"])
def test_which_of_pefts_adapters_learn(path: str, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the figure shows it: those of the layers that are called. PEFT's refusal of out_proj is passed over."""
    if path == "fused":
        monkeypatch.setattr(modeling_mamba, "mamba_inner_fn", fused.mamba_inner_fn)
    monkeypatch.setattr(LoraModel, "_check_target_module_compatiblity", lambda *_: None)
    model: Any = get_peft_model(small(), LoraConfig(target_modules=[layer]))
    tokens = ids(2, 16)
    loss = model.train()(tokens, labels=tokens).loss
    if loss.requires_grad:  # else nothing that learns was computed with
        loss.backward()
    learned = {parameter.grad is not None for name, parameter in model.named_parameters() if "lora_" in name}
    assert learned == {layer not in PATHS[path].reads}


def test_peft_merges_adapted_embeddings_into_the_output_too() -> None:
    """They share one tensor, and the output had no adapter (transformers#30316)."""
    model: Any = get_peft_model(small(), LoraConfig(target_modules=["embeddings"], init_lora_weights=False))
    before = logits(model, tokens := ids(2, 16))
    alone: Any = get_peft_model(
        small(tie_word_embeddings=False), LoraConfig(target_modules=["embeddings"], init_lora_weights=False)
    )
    untied = logits(alone, tokens)
    assert float((logits(model.merge_and_unload(), tokens) - before).abs().max()) > 1
    torch.testing.assert_close(logits(alone.merge_and_unload(), tokens), untied, rtol=1e-4, atol=1e-4)


def test_a_copied_cache_is_one_of_its_own() -> None:
    """Steps write into the tensors of a cache: what many questions start from has to be copied for each."""
    model, tokens = small(), ids(1, 12)
    use_own_mixers(model)
    cache = read(model, tokens)
    kept = copy.deepcopy(cache)
    read(model, ids(1, 3), cache_params=cache)
    states = [each.layers[0].recurrent_states[0] for each in (cache, kept)]
    assert not torch.equal(*states)
    torch.testing.assert_close(states[1], read(model, tokens).layers[0].recurrent_states[0])
