"""Models on our scan against transformers' own loop; their caches, padding, and what stays untouched."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.falcon_mamba import modeling_falcon_mamba
from transformers.models.mamba import modeling_mamba

from compresskit.models.mamba.mixer import use_own_mixers
from tests.models.mamba.small import FAMILIES, ids, small

KERNELS = (
    "mamba_inner_fn",
    "mamba_selective_scan",
    "mamba_selective_state_update",
    "causal_conv1d_fn",
    "causal_conv1d_update",
)


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A model as transformers has it, and a copy of it on our scan."""
    theirs = small(request.param)
    ours = copy.deepcopy(theirs)
    assert use_own_mixers(ours) == 2
    return theirs, ours


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, whatever transformers would send to a kernel fails."""

    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel was called")

    for module in (modeling_mamba, modeling_falcon_mamba):
        for name in KERNELS:
            monkeypatch.setattr(module, name, reached)


@torch.no_grad()
def logits(model: Any, tokens: Tensor, **options: Any) -> Tensor:
    found: Tensor = model(tokens, **options).logits
    return found


@pytest.mark.parametrize("training", [False, True])
def test_logits_and_gradients_are_those_of_the_loop(pair: tuple[Any, Any], training: bool) -> None:
    tokens = ids(3, 37)
    grads = []
    for model in pair:
        model.train(training)
        outputs = model(tokens, labels=tokens)
        outputs.loss.backward()
        grads.append((outputs.logits, {name: p.grad for name, p in model.named_parameters()}))
    (wanted, theirs), (found, ours) = grads
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_kernel_is_called(family: str, training: bool) -> None:
    model = small(family).train(training)
    with pytest.raises(AssertionError):
        logits(model, ids(1, 5))
    use_own_mixers(model)
    tokens = ids(1, 5)
    model(tokens, labels=tokens).loss.backward()
    cache = model(tokens, use_cache=True).cache_params
    logits(model, tokens[:, :1], cache_params=cache)


@pytest.mark.parametrize("cut", [1, 2, 3, 9, 30])
def test_a_prefix_and_several_tokens_after_it_are_the_whole(pair: tuple[Any, Any], cut: int) -> None:
    theirs, ours = pair
    tokens = ids(2, 31)
    wanted = logits(theirs, tokens, use_cache=False)
    cache = None
    parts = []
    for part in tokens.split([cut, 31 - cut], dim=1):
        with torch.no_grad():
            outputs = ours(part, cache_params=cache, use_cache=True)
        cache = outputs.cache_params
        parts.append(outputs.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted, rtol=1e-5, atol=1e-5)


def test_one_token_a_step_is_the_whole(pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    tokens = ids(2, 12)
    cache, steps = None, []
    with torch.no_grad():
        for token in tokens.split(1, dim=1):
            outputs = ours(token, cache_params=cache, use_cache=True)
            cache = outputs.cache_params
            steps.append(outputs.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), logits(theirs, tokens, use_cache=False), rtol=1e-5, atol=1e-5)


def test_a_shared_prefix_fans_out(pair: tuple[Any, Any]) -> None:
    """The state of one prefix, copied to four questions; the prefix's own stays what it was."""
    theirs, ours = pair
    prefix, questions = ids(1, 20), ids(4, 9)
    with torch.no_grad():
        cache = ours(prefix, use_cache=True).cache_params
        kept = cache.layers[0].recurrent_states[0].clone()
        fanned = copy.deepcopy(cache)
        fanned.reorder_cache(torch.zeros(4, dtype=torch.long))
        found = ours(questions, cache_params=fanned, use_cache=True).logits
    wanted = logits(theirs, torch.cat((prefix.expand(4, -1), questions), dim=1), use_cache=False)[:, 20:]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(cache.layers[0].recurrent_states[0], kept)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_leaves_the_logits_of_real_tokens_as_they_are(pair: tuple[Any, Any], side: str) -> None:
    _, ours = pair
    tokens, padded, mask = ids(1, 11), torch.zeros(1, 16, dtype=torch.long), torch.zeros(1, 16, dtype=torch.long)
    real = slice(0, 11) if side == "right" else slice(5, 16)
    padded[:, real], mask[:, real] = tokens, 1
    found = logits(ours, padded, attention_mask=mask)[:, real]
    torch.testing.assert_close(found, logits(ours, tokens), rtol=1e-5, atol=1e-5)


def test_generate_writes_what_the_loop_writes(pair: tuple[Any, Any]) -> None:
    prompt = ids(2, 7)
    theirs, ours = (model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0) for model in pair)
    assert torch.equal(theirs, ours)


def test_bf16_and_autocast_run(pair: tuple[Any, Any]) -> None:
    _, ours = pair
    tokens = ids(2, 20)
    wanted = logits(ours, tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float((logits(ours, tokens) - wanted).abs().max()) < 0.1
    assert float((logits(ours.to(torch.bfloat16), tokens) - wanted).abs().max()) < 0.2


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    plain = small().train()
    use_own_mixers(plain)
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable()
    tokens = ids(2, 20)
    for model in (plain, checkpointed):
        model(tokens, labels=tokens).loss.backward()
    for (name, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_only_this_model_changes_and_it_saves_as_before(tmp_path: Path) -> None:
    model = small()
    use_own_mixers(model)
    assert use_own_mixers(model) == 2  # once more changes nothing
    again = copy.deepcopy(model)
    model.save_pretrained(tmp_path)
    reloaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(reloaded.backbone.layers[0].mixer) is modeling_mamba.MambaMixer
    tokens = ids(2, 10)
    torch.testing.assert_close(logits(reloaded, tokens), logits(model, tokens), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        again.backbone.layers[0].mixer.A_log.add_(1)
    assert not torch.allclose(logits(again, tokens), logits(model, tokens))


def test_the_cache_goes_by_the_name_of_transformers_5_24_too() -> None:
    model = small()
    use_own_mixers(model)
    mixer = model.backbone.layers[0].mixer
    tokens = torch.randn(1, 8, 32)
    outputs = []
    with torch.no_grad():
        for name in ("cache_params", "cache"):
            cache = model(ids(1, 4) * 0 + 1, use_cache=True).cache_params
            outputs.append(mixer(tokens, **{name: cache}))
    assert torch.equal(*outputs)
    assert not torch.allclose(outputs[0], mixer(tokens))


def test_mamba_2_goes_on_from_its_state_by_itself() -> None:
    """Its own path in PyTorch takes a state along."""
    model = small("mamba2")
    tokens = ids(2, 21)
    with torch.no_grad():
        cache = model(tokens[:, :12], use_cache=True).cache_params
        rest = model(tokens[:, 12:], cache_params=cache, use_cache=True).logits
    torch.testing.assert_close(rest, logits(model, tokens, use_cache=False)[:, 12:], rtol=1e-5, atol=1e-5)
