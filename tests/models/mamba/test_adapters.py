"""LoRA in Mambas: what learns on which path, and that it computes the same everywhere, saved and merged too."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners import lora
from peft.utils import PeftType
from torch import Tensor
from transformers import AutoModelForCausalLM, BertConfig, BertForQuestionAnswering
from transformers.models.mamba import modeling_mamba

from compresskit.checkpoint.store import load_tensors, read_json, save_tensors, write_json
from compresskit.errors import InputError, UsageError
from compresskit.methods.merge import fold
from compresskit.models.causal import CausalFamily
from compresskit.models.kinds.adapter import CONFIG, WEIGHTS
from compresskit.models.kinds.bnb import keep_in_place, pack
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import TrainableModel
from compresskit.models.mamba.adapters import (
    DEFAULT_TARGETS,
    TARGETS,
    MambaLora,
    adapter_tensors,
    open_adapters,
    put_adapters,
    save_adapters,
)
from compresskit.models.mamba.layers import EffectiveLinear
from compresskit.models.mamba.mixer import use_own_mixers
from tests.models.mamba import fused
from tests.models.mamba.small import ids, small

ALL = (*DEFAULT_TARGETS, "dt_proj", "embeddings")
# The paths of training: transformers' own in PyTorch, the fused kernel's, and ours.
PATHS = ("loop", "fused", "own")


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On `fused`, training takes the stand-in of the kernel."""
    name: str = request.param
    if name == "fused":
        monkeypatch.setattr(modeling_mamba, "mamba_inner_fn", fused.mamba_inner_fn)
    return name


def adapted(model: Any, targets: tuple[str, ...] = ALL, **options: Any) -> MambaLora:
    """Adapters none of which is zero."""
    settings: dict[str, Any] = {"rank": 4, "alpha": 8.0, "targets": targets}
    lora = put_adapters(model, **settings | options)
    with torch.no_grad():
        for parameter in adapter_tensors(lora).values():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return lora


def packed(bits: int) -> Any:
    """A Mamba whose projections are packed, but for what must not be."""
    model = small(hidden_size=64)
    names = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    pack(model, [name for name in names if not name.endswith(("lm_head", "dt_proj"))], bits)
    keep_in_place(model)
    return model


@torch.no_grad()
def logits(model: Any, tokens: Tensor, *, training: bool = False) -> Tensor:
    """As in evaluation, or as in training."""
    found: Tensor = model.train(training)(tokens).logits
    model.eval()
    return found


def on(path: str, model: Any) -> Any:
    """The model on our scan where that is the path."""
    if path == "own":
        use_own_mixers(model)
    return model


def check_gradients(model: Any, lora: MambaLora) -> None:
    """Every tensor of every adapter has a gradient that is not zero, and nothing else has any."""
    tokens = ids(2, 16)
    model.train()(tokens, labels=tokens).loss.backward()
    tensors = adapter_tensors(lora)
    assert {name for name, p in tensors.items() if p.grad is None or not bool(p.grad.any())} == set()
    assert sum(p.grad is not None for p in model.parameters()) == len(tensors)


def test_every_adapter_learns_on_every_path(path: str) -> None:
    model = on(path, small())
    lora = adapted(model)
    assert len(adapter_tensors(lora)) == 2 * (2 * len(ALL[:-1]) + 1)
    check_gradients(model, lora)


@pytest.mark.parametrize("bits", [4, 8])
def test_on_packed_weights_too(path: str, bits: int) -> None:
    model = on(path, packed(bits))
    lora = adapted(model)
    check_gradients(model, lora)
    tokens = ids(2, 12)
    # bitsandbytes rounds the inputs of a layer in 8 bits, and no others.
    bound = 2e-5 if bits == 4 else 0.3
    torch.testing.assert_close(logits(model, tokens, training=True), logits(model, tokens), rtol=bound, atol=bound)


def test_training_and_evaluation_compute_the_same(path: str) -> None:
    model = on(path, small())
    plain = logits(model, tokens := ids(2, 16))
    adapted(model)
    found = logits(model, tokens, training=True)
    torch.testing.assert_close(found, logits(model, tokens), rtol=2e-6, atol=5e-6)
    assert float((found - plain).abs().max()) > 0.1


def test_new_adapters_change_nothing() -> None:
    model = small()
    before = logits(model, tokens := ids(2, 16))
    put_adapters(model, rank=4, alpha=8.0)
    torch.testing.assert_close(logits(model, tokens), before, rtol=2e-6, atol=5e-6)


def test_falcon_mamba_and_mamba_2_learn() -> None:
    for family, targets, layers in (("falcon_mamba", ALL, 5), ("mamba2", (), 2)):
        model = small(family)
        lora = adapted(model, targets)
        assert len({name.split(".lora_")[0].rpartition(".")[2] for name in adapter_tensors(lora)}) == layers
        check_gradients(model, lora)


@pytest.mark.parametrize("rslora", [False, True])
def test_what_is_saved_opens_to_the_same_logits(tmp_path: Path, rslora: bool) -> None:
    base = small()
    model = copy.deepcopy(base)
    lora = adapted(model, rslora=rslora)
    save_adapters(lora, tmp_path)
    opened = open_adapters(base, tmp_path)
    assert not any(parameter.requires_grad for parameter in adapter_tensors(opened).values())
    torch.testing.assert_close(logits(base, tokens := ids(2, 16)), logits(model, tokens), rtol=2e-6, atol=5e-6)
    (tmp_path / "again").mkdir()
    save_adapters(opened, tmp_path / "again")
    assert read_json(tmp_path / "again" / CONFIG) == read_json(tmp_path / CONFIG)


def folded(model: Any) -> Any:
    """As `merge` does it."""
    assert fold(TrainableModel(model, None, CausalFamily(), FullKind(), "", None, None))  # type: ignore[arg-type]
    return model


def test_merged_it_gives_the_same_logits_and_is_a_plain_checkpoint(tmp_path: Path) -> None:
    """Embeddings are adapted here, so the head has to be untied."""
    model = small()
    adapted(model)
    before = logits(model, tokens := ids(2, 16))
    merged = folded(model)
    torch.testing.assert_close(logits(merged, tokens), before, rtol=1e-5, atol=1e-5)
    merged.save_pretrained(tmp_path)
    reloaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(reloaded, tokens), before, rtol=1e-5, atol=1e-5)
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_without_adapted_embeddings_a_tied_head_stays_tied() -> None:
    model = small()
    adapted(model, DEFAULT_TARGETS)
    folded(model)
    assert model.lm_head.weight is model.backbone.embeddings.weight


@pytest.mark.parametrize(("target", "rows"), [("in_x", slice(64)), ("in_z", slice(64, None))])
def test_a_half_learns_alone_and_lies_in_the_plain_layout(target: str, rows: slice, tmp_path: Path) -> None:
    base = small()
    model = copy.deepcopy(base)
    lora = put_adapters(model, rank=4, alpha=8.0, targets=(target,))
    optimizer = torch.optim.AdamW(adapter_tensors(lora).values(), lr=0.1)
    tokens = ids(2, 16)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(tokens, labels=tokens).loss.backward()
        optimizer.step()
    save_adapters(lora, tmp_path)
    for name, tensor in load_tensors(tmp_path / WEIGHTS).items():
        learned = bool(tensor.any()) if "lora_A" in name else bool(tensor[rows].all())
        assert learned
        assert "lora_A" in name or torch.count_nonzero(tensor) == tensor[rows].numel()
    theirs = PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(logits(theirs, tokens), logits(model, tokens), rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize("targets", [("in_x", "in_z"), ("in_x", "in_proj")])
def test_both_halves_are_the_whole(targets: tuple[str, ...]) -> None:
    model = small()
    lora = adapted(model, targets)
    check_gradients(model, lora)
    grads = [p.grad for name, p in adapter_tensors(lora).items() if "lora_B" in name]
    assert all(bool(grad.any(1).all()) for grad in grads if grad is not None)


def test_plain_peft_opens_what_it_does_not_refuse(tmp_path: Path) -> None:
    base = small()
    model = copy.deepcopy(base)
    save_adapters(adapted(model, ("in_proj", "x_proj", "embeddings")), tmp_path)
    theirs = PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(logits(theirs, tokens := ids(2, 16)), logits(model, tokens), rtol=2e-6, atol=5e-6)


def test_peft_is_unchanged_for_everybody_else() -> None:
    adapted(small())
    assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType.LORA] is lora.LoraModel
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    bert = BertForQuestionAnswering(BertConfig(vocab_size=30, **sizes))
    get_peft_model(bert, LoraConfig(target_modules=["query"]))
    mamba = small()
    get_peft_model(mamba, LoraConfig(target_modules=["x_proj"]))
    layers = [module for model in (bert, mamba) for module in model.modules() if isinstance(module, lora.LoraLayer)]
    assert {type(layer) for layer in layers} == {lora.Linear}
    assert all(layer.weight is layer.base_layer.weight for layer in layers)
    with pytest.raises(ValueError, match="incompatible with Mamba"):
        get_peft_model(small(), LoraConfig(target_modules=["out_proj"]))


def test_peft_as_shipped_does_not_train_x_proj_on_the_fused_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap that all of this is for; where it is gone, so may be our layers."""
    monkeypatch.setattr(modeling_mamba, "mamba_inner_fn", fused.mamba_inner_fn)
    model = get_peft_model(small(), LoraConfig(target_modules=["in_proj", "x_proj"]))
    model.train()(tokens := ids(2, 16), labels=tokens).loss.backward()
    got = {name for name, p in model.named_parameters() if p.grad is not None}
    assert any("in_proj" in name for name in got)
    assert not any("x_proj" in name for name in got)


def test_an_unmerged_layer_can_be_switched_off() -> None:
    model = small()
    plain = logits(model, tokens := ids(1, 8))
    lora = adapted(model, ("dt_proj",))
    lora.disable_adapter_layers()
    assert torch.equal(logits(model, tokens), plain)
    layer = model.backbone.layers[0].mixer.dt_proj
    assert isinstance(layer, EffectiveLinear)
    assert layer.weight is layer.base_layer.weight


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_unknown_targets_are_told(family: str) -> None:
    with pytest.raises(UsageError, match=r"--targets query matches nothing in a mamba.*; take of in_proj, "):
        put_adapters(small(family), rank=4, alpha=8.0, targets=("in_proj", "query"))


def test_mamba_2_has_no_halves_and_no_x_proj() -> None:
    for target in ("in_x", "x_proj"):
        with pytest.raises(UsageError, match=f"--targets {target}"):
            put_adapters(small("mamba2"), rank=4, alpha=8.0, targets=(target,))


@pytest.mark.parametrize("target", [target for target in TARGETS if not target.startswith("in_")])
def test_dropout_is_refused_where_there_is_no_input_to_drop(target: str) -> None:
    with pytest.raises(UsageError, match=f"--dropout has no effect on {target}, "):
        put_adapters(small(), rank=4, alpha=8.0, dropout=0.1, targets=("in_proj", target))


def test_dropout_works_on_in_proj(path: str) -> None:
    model = on(path, small())
    adapted(model, ("in_proj",), dropout=0.5)
    tokens = ids(2, 16)
    assert not torch.allclose(logits(model, tokens, training=True), logits(model, tokens, training=True))
    assert torch.equal(logits(model, tokens), logits(model, tokens))


@pytest.mark.parametrize("fault", ["lacks", "too many", "shape"])
def test_an_adapter_that_does_not_fit_is_refused(fault: str, tmp_path: Path) -> None:
    save_adapters(adapted(small(), DEFAULT_TARGETS), tmp_path)
    tensors = load_tensors(tmp_path / WEIGHTS)
    name = min(tensors)
    if fault == "lacks":
        del tensors[name]
    elif fault == "too many":
        tensors["base_model.model.lm_head.weight"] = torch.zeros(2)
    else:
        tensors[name] = tensors[name][:, :-1]
    save_tensors(tmp_path / WEIGHTS, tensors)
    with pytest.raises(InputError, match="does not fit its base: it differs in 1 tensor, such as"):
        open_adapters(small(), tmp_path)


@pytest.mark.parametrize("settings", [{"peft_type": "LOHA"}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_other_adapters_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    save_adapters(adapted(small(), DEFAULT_TARGETS), tmp_path)
    write_json(tmp_path / CONFIG, read_json(tmp_path / CONFIG) | settings)
    with pytest.raises(InputError, match="not plain LoRA"):
        open_adapters(small(), tmp_path)
